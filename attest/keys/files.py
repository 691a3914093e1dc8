"""Private files: written once with mode 0600, read only if nobody else can read them."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from attest.keys.errors import KeyFileRefused

MAX_BYTES = 64 * 1024
CREDENTIALS_DIRECTORY = "CREDENTIALS_DIRECTORY"
"""systemd sets this variable for a unit with LoadCredential= (systemd.exec(5)); it names a folder, not a secret."""


def read_private(path: Path) -> bytes:
    """The bytes of a regular file that belongs to this user (or root) and that group and others cannot read.

    A systemd credential is recognised by its folder and may be group-readable: systemd protects the folder itself.
    Symbolic links are not followed.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as exc:
        raise KeyFileRefused(f"key file {path}: {exc.strerror}") from None
    try:
        _check_private(os.fstat(handle), path)
        with os.fdopen(handle, "rb", closefd=False) as file:
            data = file.read(MAX_BYTES + 1)
    finally:
        os.close(handle)
    if len(data) > MAX_BYTES:
        raise KeyFileRefused(f"key file {path}: more than {MAX_BYTES} bytes")
    return data


def _check_private(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise KeyFileRefused(f"key file {path}: not a regular file")
    if status.st_uid not in (0, os.geteuid()):
        raise KeyFileRefused(f"key file {path}: belongs to user {status.st_uid}, want {os.geteuid()} or root")
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077 and not _is_credential(path):
        raise KeyFileRefused(f"key file {path}: mode {mode:04o}, want 0600", hint=f"chmod 600 {path}")


def write_private(path: Path, data: bytes) -> None:
    """Make a new file with mode 0600 and put it on stable storage. An existing file is refused, never overwritten."""
    write_new(path, data, mode=0o600)


def write_new(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Make a new file of that mode and put it on stable storage."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        raise KeyFileRefused(f"file {path}: cannot be written: {exc.strerror}") from None


def _is_credential(path: Path) -> bool:
    folder = os.environ.get(CREDENTIALS_DIRECTORY)
    return bool(folder) and path.absolute().parent == Path(str(folder)).absolute()


def replace_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace a file's content as a whole: readers see the old bytes or the new ones, never a part."""
    beside = path.with_name(f".{path.name}.new-{os.getpid()}")
    with suppress(OSError):
        beside.unlink()  # of a process with our number that died here
    write_new(beside, data, mode=mode)
    try:
        os.replace(beside, path)
    except OSError as exc:
        raise KeyFileRefused(f"file {path}: cannot be replaced: {exc.strerror}") from None
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on stable storage."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as exc:
        raise KeyFileRefused(f"folder {folder}: cannot be synced: {exc.strerror}") from None
