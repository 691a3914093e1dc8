"""Read the first bytes of an NBD export: enough to know that it is there and what it begins with.

Source: NBD protocol, "Fixed newstyle negotiation" and "Transmission phase"; all numbers big-endian.
"""

from __future__ import annotations

import socket
import struct

from launcher.errors import StorageFailed

_MAGIC, _OPTIONS, _REPLY = 0x4E42444D41474943, 0x49484156454F5054, 0x3E889045565A9
_FIXED, _NO_ZEROES = 1, 2
_GO, _ACK, _INFO, _INFO_EXPORT = 7, 1, 3, 0
_REQUEST, _SIMPLE, _READ, _DISCONNECT = 0x25609513, 0x67446698, 0, 2
_MAX_REPLY = 4096


def read_head(connection: socket.socket, export: str, count: int) -> tuple[int, bytes]:
    """(size in bytes, first ``count`` bytes or all there are) of ``export``. Raises :class:`StorageFailed`.

    ``connection`` is fresh, has a timeout, and is of no further use afterwards.
    """
    try:
        size = _negotiate(connection, export)
        wanted = min(count, size)
        connection.sendall(struct.pack(">IHHQQI", _REQUEST, 0, _READ, 1, 0, wanted))
        magic, error, _handle = struct.unpack(">IIQ", _exactly(connection, 16))
        if magic != _SIMPLE or error:
            raise StorageFailed(f"NBD export {export}: reading gives error {error}, answer {magic:#x}")
        data = _exactly(connection, wanted)
        connection.sendall(struct.pack(">IHHQQI", _REQUEST, 0, _DISCONNECT, 2, 0, 0))
    except OSError as exc:
        raise StorageFailed(f"NBD export {export}: {exc}") from None
    return size, data


def _negotiate(connection: socket.socket, export: str) -> int:
    """Up to transmission; the export's size."""
    magic, options, flags = struct.unpack(">QQH", _exactly(connection, 18))
    if (magic, options) != (_MAGIC, _OPTIONS) or not flags & _FIXED:
        raise StorageFailed(f"NBD export {export}: the server's greeting is none of NBD's")
    name = export.encode("utf-8")
    body = struct.pack(">I", len(name)) + name + struct.pack(">H", 0)
    connection.sendall(struct.pack(">I", _FIXED | _NO_ZEROES) + struct.pack(">QII", _OPTIONS, _GO, len(body)) + body)
    size: int | None = None
    while True:
        magic, _option, kind, length = struct.unpack(">QIII", _exactly(connection, 20))
        if magic != _REPLY or length > _MAX_REPLY:
            raise StorageFailed(f"NBD export {export}: an answer that is none of NBD's")
        answer = _exactly(connection, length)
        if kind == _ACK and size is not None:
            return size
        if kind == _INFO and len(answer) == 12 and answer[:2] == b"\0\0":
            size = int.from_bytes(answer[2:10], "big")
        elif kind != _INFO:
            raise StorageFailed(f"NBD export {export}: refused ({kind:#x}): {answer.decode('utf-8', 'replace')[:200]}")


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = connection.recv(min(count - len(data), 1 << 16))
        if not piece:
            raise StorageFailed(f"NBD: the server closed the connection after {len(data)} of {count} bytes")
        data += piece
    return bytes(data)
