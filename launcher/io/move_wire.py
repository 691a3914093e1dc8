"""The connection of a cold move: messages as lines of JSON, files as so many bytes behind one. And files themselves."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
from hashlib import sha256

from launcher.core.moving import Contents, MoveMalformed
from launcher.core.text import safe_text
from launcher.errors import LauncherError, StateUnusable
from policy.strictjson import strict_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_LINE = 4 << 20
_PIECE = 1 << 20
_PATIENCE = 3600.0
"""Seconds for the other side to hash its disks; its end is noticed at once."""


class MoveFailed(LauncherError):
    """The move came to nothing, in a known state."""

    code = "move.failed"
    exit_status = 9


class Wire:
    """One side. Every method raises :class:`MoveFailed` when the other side is gone or says that it refuses."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = bytearray()
        connection.settimeout(_PATIENCE)

    def send(self, **document: object) -> None:
        """One message."""
        self._send(json.dumps(document).encode("ascii") + b"\n")

    def receive(self) -> dict[str, Any]:
        """The next message; a refusal is raised as the other side's words."""
        while b"\n" not in self._buffer:
            if len(self._buffer) > MAX_LINE:
                raise MoveMalformed(f"move: a message of more than {MAX_LINE} bytes")
            self._fill()
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer[:] = rest
        document = strict_json(line, "move", max_bytes=MAX_LINE, error=MoveMalformed)
        if not isinstance(document, dict):
            raise MoveMalformed("move: a message that is no object")
        if "refused" in document:
            raise MoveFailed(f"the other side refuses: {safe_text(str(document['refused']), 2000)}")
        return document

    def expect(self, name: str) -> Any:
        """The one member of the next message."""
        document = self.receive()
        if set(document) != {name}:
            raise MoveMalformed(f"move: got {', '.join(map(str, document))[:80]!r}, want {name}")
        return document[name]

    def send_file(self, path: str, size: int) -> None:
        """Exactly ``size`` bytes of a file."""
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  pathlib costs start-up time
            left = size
            while left:
                data = file.read(min(left, _PIECE))
                if not data:
                    raise MoveFailed(f"{path}: became shorter while it was sent")
                self._send(data)
                left -= len(data)

    def receive_file(self, path: str, expected: Contents) -> None:
        """Into a new file, on disk before this returns; zeros are left out as holes. A digest that is not the expected
        one removes it again.
        """
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                digest, left = sha256(), expected.size
                while left:
                    data = self._take(min(left, _PIECE))
                    digest.update(data)
                    left -= len(data)
                    if data.count(0) == len(data):
                        file.seek(len(data), os.SEEK_CUR)
                    else:
                        _write_all(file.fileno(), data)
                file.truncate(expected.size)
                os.fsync(file.fileno())
            if digest.hexdigest() != expected.sha256:
                raise MoveFailed(f"{path}: sha256 {digest.hexdigest()}, want {expected.sha256}: damaged on the way")
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise

    def _take(self, most: int) -> bytes:
        if not self._buffer:
            self._fill()
        data = bytes(self._buffer[:most])
        del self._buffer[: len(data)]
        return data

    def _fill(self) -> None:
        try:
            data = self._socket.recv(_PIECE)
        except OSError as exc:
            raise MoveFailed(f"the other side does not answer: {exc.strerror or exc}") from None
        if not data:
            raise MoveFailed("the other side has gone")
        self._buffer += data

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError:
            raise MoveFailed("the other side has gone") from None


def contents(path: str, *, hashed: bool = True) -> Contents:
    """Size and digest of a regular file or block device. Raises `StateUnusable`."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  pathlib costs start-up time
            mode = os.fstat(file.fileno()).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
                raise StateUnusable(f"move: {path}: is neither a regular file nor a block device")
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            digest = sha256()
            while hashed and (data := file.read(_PIECE)):
                digest.update(data)
    except OSError as exc:
        raise StateUnusable(f"move: {path}: {exc.strerror}") from None
    return Contents(size, digest.hexdigest() if hashed else "")


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
