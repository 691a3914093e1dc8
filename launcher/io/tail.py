"""Follow a growing file, and keep it from growing for ever."""

from __future__ import annotations

import contextlib
import os

LIMIT = 16 << 20
"""Bytes a console log may have; then it becomes ``NAME.1`` and starts anew. A guest must not fill the host's disk."""


class Tail:
    """New bytes of a file that may not exist yet. The writer must append (O_APPEND), so that truncating is safe."""

    __slots__ = ("_offset", "path")

    def __init__(self, path: str, offset: int = 0) -> None:
        self.path = path
        self._offset = offset

    @property
    def offset(self) -> int:
        """Bytes read so far."""
        return self._offset

    def read(self, most: int = 1 << 20) -> bytes:
        """What was added since the last call, at most ``most`` bytes."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return b""
        try:
            if os.fstat(descriptor).st_size < self._offset:
                self._offset = 0
            data = os.pread(descriptor, most, self._offset)
        finally:
            os.close(descriptor)
        self._offset += len(data)
        return data

    def rotate(self, limit: int = LIMIT) -> bool:
        """Move a file that has passed ``limit`` aside; what arrives between copy and truncation may be lost, and all of
        it where there is no room for two.
        """
        try:
            if os.stat(self.path).st_size <= limit:
                return False
        except FileNotFoundError:
            return False
        try:
            self._copy(f"{self.path}.1")
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(f"{self.path}.1")
        os.truncate(self.path, 0)
        self._offset = 0
        return True

    def _copy(self, path: str) -> None:
        """To a new file: what is at ``path`` may be a link that a QEMU which was taken over has left."""
        from shutil import copyfileobj

        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(self.path, "rb") as source, os.fdopen(descriptor, "wb") as copy:  # noqa: PTH123  pathlib costs start-up time
            copyfileobj(source, copy)


def last_lines(path: str, count: int, most: int = 8192) -> list[str]:
    """The last ``count`` lines of a text file, from its last ``most`` bytes."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123  pathlib costs start-up time
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - most))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]
