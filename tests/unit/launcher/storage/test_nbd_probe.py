"""Reading an export's head: against servers that misbehave. Real servers: ``tests/e2e/test_storage.py``."""

from __future__ import annotations

import socket
import struct
import threading

import pytest

from launcher.errors import StorageFailed
from launcher.io.nbd import read_head

GREETING = struct.pack(">QQH", 0x4E42444D41474943, 0x49484156454F5054, 3)


def option(kind: int, body: bytes) -> bytes:
    return struct.pack(">QIII", 0x3E889045565A9, 7, kind, len(body)) + body


EXPORT = option(3, struct.pack(">HQH", 0, 1024, 1))
ACK = option(1, b"")
DATA = struct.pack(">IIQ", 0x67446698, 0, 1) + bytes(range(16))


def asked(said: bytes) -> tuple[int, bytes]:
    """What `read_head` makes of a server that says all this and closes."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with theirs:
            theirs.sendall(said)
            theirs.settimeout(5)
            try:
                while theirs.recv(4096):
                    pass
            except OSError:
                return

    thread = threading.Thread(target=serve)
    thread.start()
    with ours:
        ours.settimeout(1)
        try:
            return read_head(ours, "e", 16)
        finally:
            ours.close()
            thread.join(5)


def test_size_and_first_bytes_are_read() -> None:
    assert asked(GREETING + EXPORT + ACK + DATA) == (1024, bytes(range(16)))


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        GREETING[:-2] + b"\0\0",
        GREETING + option((1 << 31) + 6, b"no such export"),
        GREETING + struct.pack(">QIII", 0x3E889045565A9, 7, 3, 1 << 30),
        GREETING + struct.pack(">QIII", 1, 7, 3, 0),
        GREETING + EXPORT + ACK + struct.pack(">IIQ", 0x67446698, 5, 1),
        GREETING + EXPORT + ACK + DATA[:20],
        GREETING + EXPORT,
    ],
)
def test_a_server_that_says_anything_else_is_a_clear_error(said: bytes) -> None:
    with pytest.raises(StorageFailed, match="NBD"):
        asked(said)
