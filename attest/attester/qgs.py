"""A quote from the host's quoting service (QGS) over vsock: how a TD gets one without the kernel's help.

    u32 big-endian   size of the message that follows
    header, 16       u16 major = 1, u16 minor, u32 type, u32 size of the message, u32 error (answers)
    question         type 0: u32 size of the TDREPORT, u32 size of a list of ids = 0, the TDREPORT
    answer           type 1: u32 size of the id, u32 size of the quote, id, quote

All but the first number are little-endian. The host may answer anything: who verifies the quote finds out. Source:
Intel, *SGX Data Center Attestation Primitives*, ``qgs_msg_lib.h``; that library takes every minor version, too.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

from attest.attester.errors import EvidenceUnavailable
from attest.attester.raw_evidence import SourceAbsent

PORT = 4050
SECONDS = 30.0
"""For the whole exchange; a quoting enclave takes milliseconds, a host that provisions it first takes seconds."""
MAX_ANSWER = 128 * 1024
_SIZE, _HEADER, _PARTS = struct.Struct(">I"), struct.Struct("<HHIII"), struct.Struct("<II")
_MAJOR, _MINOR, _QUESTION, _ANSWER = 1, 0, 0, 1

Connect = Callable[[], socket.socket]


def connect_to_host() -> socket.socket:
    """A connection to the host's QGS. Raises SourceAbsent without vsock, EvidenceUnavailable where nobody listens."""
    try:
        connection = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    except OSError as exc:
        raise SourceAbsent(f"vsock: {exc.strerror}") from None
    try:
        connection.settimeout(SECONDS)
        connection.connect((socket.VMADDR_CID_HOST, PORT))
    except OSError as exc:
        connection.close()
        raise EvidenceUnavailable(
            f"quoting service: vsock port {PORT} of the host: {exc.strerror or exc}: not running, or not for this VM"
        ) from None
    return connection


def quote_of(tdreport: bytes, connect: Connect = connect_to_host) -> bytes:
    """The host's quote for ``tdreport`` (1024 bytes). Raises :class:`EvidenceUnavailable`."""
    body = _PARTS.pack(len(tdreport), 0) + tdreport
    size = _HEADER.size + len(body)
    with connect() as connection:
        try:
            connection.sendall(_SIZE.pack(size) + _HEADER.pack(_MAJOR, _MINOR, _QUESTION, size, 0) + body)
            (length,) = _SIZE.unpack(_exactly(connection, _SIZE.size))
            if not _HEADER.size + _PARTS.size <= length <= MAX_ANSWER:
                raise EvidenceUnavailable(f"quoting service: answer of {length} bytes, want at most {MAX_ANSWER}")
            return _quote_in(_exactly(connection, length))
        except OSError as exc:
            raise EvidenceUnavailable(f"quoting service: {exc.strerror or exc}") from None


def _quote_in(answer: bytes) -> bytes:
    major, _, kind, size, error = _HEADER.unpack_from(answer)
    if (major, kind, size) != (_MAJOR, _ANSWER, len(answer)):
        raise EvidenceUnavailable(
            f"quoting service: answer of version {major}, type {kind}, {size} bytes, want 1, 1 and {len(answer)}"
        )
    if error:
        raise EvidenceUnavailable(
            f"quoting service: error 0x{error:x}: is the platform registered, and its caching service reachable?"
        )
    id_size, quote_size = _PARTS.unpack_from(answer, _HEADER.size)
    start = _HEADER.size + _PARTS.size + id_size
    if not quote_size or start + quote_size != len(answer):
        raise EvidenceUnavailable(
            f"quoting service: id of {id_size} and quote of {quote_size} bytes in an answer of {len(answer)}"
        )
    return answer[start:]


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts: list[bytes] = []
    while count:
        part = connection.recv(min(count, 65536))
        if not part:
            raise EvidenceUnavailable("quoting service: the host closed the connection without a whole answer")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
