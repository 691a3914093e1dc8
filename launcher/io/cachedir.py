"""Where downloads and built things are kept, and how two processes share that place.

Order: ``CVM_CACHE``; ``.cache/cvm`` of the checkout when running from one; ``$XDG_CACHE_HOME/cvm``. Everything below
it can be deleted at any time: it is only ever re-made. A result appears under its final name by one rename, so an
interrupted run leaves a ``*.tmp-…`` folder at most, and the next run removes it.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


def cache_folder(environ: Mapping[str, str] | None = None, checkout: str | os.PathLike[str] = _CHECKOUT) -> Path:
    """:func:`cache_place` as a path."""
    from pathlib import Path

    return Path(cache_place(environ, checkout))


def cache_place(environ: Mapping[str, str] | None = None, checkout: str | os.PathLike[str] = _CHECKOUT) -> str:
    """The cache folder for this process; it need not exist yet. A string: a launch comes by here without pathlib."""
    env = os.environ if environ is None else environ
    if env.get("CVM_CACHE"):
        return os.path.abspath(env["CVM_CACHE"])
    if os.path.isfile(f"{checkout}/pyproject.toml"):
        return f"{checkout}/.cache/cvm"
    base = env.get("XDG_CACHE_HOME") or f"{env.get('HOME', '')}/.cache"
    return f"{base}/cvm"


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold an advisory lock on the file ``path`` (made when missing); waits for other holders. Released when the
    process ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A fresh folder beside ``target`` that takes its name when the block ends well, and vanishes when it does not.

    Call it while holding the lock of ``target``: folders that an interrupted run left behind are removed first.
    """
    import shutil  # only who makes something needs it; a launch only looks

    target.parent.mkdir(parents=True, exist_ok=True)
    for stale in target.parent.glob(f"{target.name}.tmp-*"):
        shutil.rmtree(stale, ignore_errors=True)
    fresh = target.with_name(f"{target.name}.tmp-{os.getpid()}")
    fresh.mkdir()
    try:
        yield fresh
        if target.exists():
            old = target.with_name(f"{target.name}.tmp-{os.getpid()}-old")
            target.rename(old)
            fresh.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
