"""Files that several processes share: written whole or not at all, locked while something is being done about them."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from attest.collateral.clock import Budget, Clock
from attest.collateral.errors import CacheUnusable, CollateralPaced

_POLL_SECONDS = 0.05


@contextmanager
def locked(path: Path, clock: Clock, within: float) -> Iterator[None]:
    """Hold the exclusive lock of ``path`` (flock(2): released by the kernel when its holder dies).

    Raises :class:`CollateralPaced` when somebody else holds it for longer than ``within`` seconds.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        raise CacheUnusable(f"collateral cache {path}: {exc.strerror}") from None
    try:
        _acquire(handle, path, clock, Budget(clock, within))
        yield
    finally:
        os.close(handle)


def _acquire(handle: int, path: Path, clock: Clock, budget: Budget) -> None:
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if budget.left <= 0:
                raise CollateralPaced(f"collateral cache: {path.name} is being worked on by another process") from None
            clock.sleep(min(_POLL_SECONDS, budget.left))
        except OSError as exc:
            raise CacheUnusable(f"collateral cache {path}: {exc.strerror}") from None
        else:
            return


def read_bounded(path: Path, limit: int) -> bytes:
    """The bytes of a regular file; nothing for one that is missing, unreadable, or larger than ``limit``."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            data = file.read(limit + 1) or b""
    except OSError:
        return b""
    return data if len(data) <= limit else b""


def replace(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Readers see the old content or the new one, never a part. Raises :class:`CacheUnusable`."""
    beside = path.with_name(f".{path.name[:80]}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        beside.replace(path)
    except OSError as exc:
        with suppress(OSError):
            beside.unlink()
        raise CacheUnusable(f"collateral cache {path}: {exc.strerror}") from None


def make_folder(path: Path) -> None:
    """Make a private folder. Raises :class:`CacheUnusable`."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise CacheUnusable(f"collateral cache {path}: {exc.strerror}") from None
