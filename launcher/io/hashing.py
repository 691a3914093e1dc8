"""Hash the files of a launch, large ones in threads, never holding more than one buffer of each.

On the start-up path of ``cvm measure``: ``_thread`` (documented as the low-level threading API) spares the import of
``threading``. SHA-256 and reads run without the interpreter's lock, so the threads use other processors.
"""

from __future__ import annotations

import os
from _thread import allocate_lock, start_new_thread

from policy.errors import CvmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from hashlib import _Hash as Digest

_BUFFER = 1 << 19
_MAX_BOOT_FILE = 4 << 30
"""A kernel or initrd has to lie below 4 GiB in guest memory."""


class FileUnreadable(CvmError):
    """A file an operator named cannot be read, or is larger than such a file can be."""

    code = "file.unreadable"


def hash_file(path: str, what: str, algorithm: Callable[[], Digest] | None = None) -> bytes:
    """The digest of a file's contents, SHA-256 (32 bytes) by default; ``what`` names the file in errors."""
    digest = (algorithm or _sha256)()
    total = 0
    buffer = bytearray(_BUFFER)
    view = memoryview(buffer)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while count := os.readv(descriptor, [buffer]):
                digest.update(view[:count])
                total += count
                if total > _MAX_BOOT_FILE:
                    raise FileUnreadable(f"{what}: {path}: got more than {_MAX_BOOT_FILE >> 30} GiB")
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        raise _unreadable(path, what, error) from None
    return digest.digest()


def _sha256() -> Digest:
    from hashlib import sha256  # OpenSSL's takes 3 ms to load: a launch without large files does without

    return sha256()


def read_file(path: str, what: str, most: int) -> bytes:
    """A whole file of at most ``most`` bytes."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = min(os.fstat(descriptor).st_size, most) + 1
            chunks = []
            total = 0
            while chunk := os.read(descriptor, size - total if size > total else _BUFFER):
                chunks.append(chunk)
                total += len(chunk)
                if total > most:
                    raise FileUnreadable(f"{what}: {path}: got more than {most} bytes")
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise _unreadable(path, what, error) from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _unreadable(path: str, what: str, error: OSError | ValueError) -> FileUnreadable:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return FileUnreadable(f"{what}: {path}: {reason}")


class HashJob:
    """The hash of one file, computed in a thread that starts at once."""

    __slots__ = ("_digest", "_done", "_error", "_path", "_what")

    def __init__(self, path: str, what: str) -> None:
        self._path = path
        self._what = what
        self._digest = b""
        self._error: CvmError | None = None
        self._done = allocate_lock()
        self._done.acquire()
        start_new_thread(self._run, ())

    def _run(self) -> None:
        try:
            self._digest = hash_file(self._path, self._what)
        except CvmError as error:
            self._error = error
        finally:
            self._done.release()

    def digest(self) -> bytes:
        """Wait for the result: SHA-256, 32 bytes. Raises :class:`FileUnreadable` as :func:`hash_file` does."""
        with self._done:
            if self._error is not None:
                raise self._error
            return self._digest
