"""The channel of ``cvm exec``: an operator and an attested guest speak past the host that carries their bytes. Pure.

    operator -> guest   hello   fresh point E_o, nonce, the operator's public key
    guest -> operator   answer  the nonce, fresh point E_g, attestation token (or: refusal, with a reason in words)
    both                keys = HKDF-SHA-256(ECDH(E_o, tee-pubkey) || ECDH(E_o, E_g); salt = SHA-256(hello || answer))
    operator -> guest   first sealed frame: Ed25519 signature over that hash, then the request
    guest -> operator   sealed output, at last the exit

The guest's key is the ``tee-pubkey`` of the token: bound into the report that the service accepted, its private half in
that guest's memory only. So whoever can answer *is* the attested guest; and the guest runs nothing before a signature
by an operator its measured command line names, over points and nonce of this very session. Frames are sealed with
AES-256-GCM, one key for each direction, numbered from zero: none can be left out, moved, repeated or sent back.
Sources: RFC 5869 (HKDF), RFC 8032 (Ed25519), NIST SP 800-38D; key agreement as in Noise "NK" with a signature on top.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from policy.errors import MalformedInput

PORT_NAME = "org.cvm.exec"
POINT, NONCE, KEY = 65, 32, 32
MAX_CHUNK = 16 * 1024
"""Bytes of output or input in one frame."""
MAX_FRAME = 64 * 1024
"""Longest body of any message."""
HELLO, ANSWER, REFUSAL, DATA = b"cvmx1H", b"cvmx1A", b"cvmx1R", b"cvmx1D"
_MAGIC = len(HELLO)
_HEAD = _MAGIC + 4
_HELLO_BODY = POINT + NONCE + KEY
_SIGNED = b"cvm-exec/1 operator\0"
_KEYS = b"cvm-exec/1 keys"

# What a sealed frame holds: its first byte.
AUTH, REQUEST, STDIN, STDIN_END, STDOUT, STDERR, EXIT, RESIZE = range(8)
MAX_SIDE = 4096
"""Rows or columns of a terminal, at most."""


class ExecMalformed(MalformedInput):
    """Bytes on the channel that are none of its messages, or not from whom they must be."""

    code = "exec.malformed"


class Message(NamedTuple):
    """One message in the clear: its magic and its body."""

    magic: bytes
    body: bytes


class Hello(NamedTuple):
    """What an operator begins with; ``operator`` is the raw Ed25519 public key."""

    point: bytes
    nonce: bytes
    operator: bytes


def message(magic: bytes, body: bytes) -> bytes:
    """A message as it travels."""
    if len(body) > MAX_FRAME:
        raise ExecMalformed(f"exec: message of {len(body)} bytes, want at most {MAX_FRAME}")
    return magic + len(body).to_bytes(4, "big") + body


def parse_hello(body: bytes) -> Hello:
    """Raises :class:`ExecMalformed`."""
    if len(body) != _HELLO_BODY:
        raise ExecMalformed(f"exec: hello of {len(body)} bytes, want {_HELLO_BODY}")
    return Hello(body[:POINT], body[POINT : POINT + NONCE], body[POINT + NONCE :])


class Stream:
    """Cuts what arrives into messages. What stands before the next magic is skipped: an earlier session that ended in
    the middle of a message leaves its rest in the pipe. Never holds more than one message.
    """

    def __init__(self, *wanted: bytes) -> None:
        self._wanted = wanted
        self._data = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that ``data`` completes. Raises :class:`ExecMalformed` for one that is too long."""
        self._data += data
        found: list[Message] = []
        while (one := self._next()) is not None:
            found.append(one)
        return found

    def _next(self) -> Message | None:
        at = min((at for magic in self._wanted if (at := self._data.find(magic)) >= 0), default=-1)
        del self._data[: at if at >= 0 else max(0, len(self._data) - _MAGIC + 1)]
        if at < 0 or len(self._data) < _HEAD:
            return None
        size = int.from_bytes(self._data[_MAGIC:_HEAD], "big")
        if size > MAX_FRAME:
            del self._data[:_MAGIC]
            raise ExecMalformed(f"exec: a message says it has {size} bytes, want at most {MAX_FRAME}")
        if len(self._data) < _HEAD + size:
            return None
        one = Message(bytes(self._data[:_MAGIC]), bytes(self._data[_HEAD : _HEAD + size]))
        del self._data[: _HEAD + size]
        return one


class Sealed:
    """One session's two directions. ``seal`` and ``open`` number frames by themselves."""

    def __init__(self, send: bytes, receive: bytes) -> None:
        self._send, self._receive = AESGCM(send), AESGCM(receive)
        self._sent = self._received = 0

    def seal(self, kind: int, data: bytes = b"") -> bytes:
        """A message with a sealed frame."""
        sealed = self._send.encrypt(self._sent.to_bytes(12, "big"), bytes((kind,)) + data, DATA)
        self._sent += 1
        return message(DATA, sealed)

    def open(self, body: bytes) -> tuple[int, bytes]:
        """(kind, data) of the next frame; raises :class:`ExecMalformed` for any other."""
        try:
            plain = self._receive.decrypt(self._received.to_bytes(12, "big"), body, DATA)
        except (InvalidTag, ValueError):
            raise ExecMalformed("exec: a frame that is not the next one of this session") from None
        self._received += 1
        if not plain or plain[0] > RESIZE:
            raise ExecMalformed("exec: a frame of an unknown kind")
        return plain[0], plain[1:]


class Ephemeral:
    """A fresh P-256 key of one session."""

    def __init__(self) -> None:
        self._private = ec.generate_private_key(ec.SECP256R1())

    @property
    def point(self) -> bytes:
        """Uncompressed, 65 bytes (SEC 1, 2.3.3)."""
        return self._private.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )

    def agree(self, point: bytes) -> bytes:
        """The shared secret; raises :class:`ExecMalformed` for bytes that are no point of the curve."""
        return self._private.exchange(ec.ECDH(), public_point(point))


def public_point(point: bytes) -> ec.EllipticCurvePublicKey:
    """A point of P-256. Raises :class:`ExecMalformed`."""
    if len(point) != POINT:
        raise ExecMalformed(f"exec: a point of {len(point)} bytes, want {POINT}")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        raise ExecMalformed("exec: 65 bytes that are no point on P-256") from None


def transcript(hello: bytes, answer: bytes) -> bytes:
    """The hash both sides sign, check and derive from: of both messages whole, as they travelled."""
    return hashlib.sha256(len(hello).to_bytes(4, "big") + hello + answer).digest()


def session_keys(with_tee: bytes, with_fresh: bytes, digest: bytes) -> tuple[bytes, bytes]:
    """(operator to guest, guest to operator)."""
    derived = HKDF(hashes.SHA256(), 64, salt=digest, info=_KEYS).derive(with_tee + with_fresh)
    return derived[:32], derived[32:]


def sign(private: ed25519.Ed25519PrivateKey, digest: bytes) -> bytes:
    """The operator's proof for this session."""
    return private.sign(_SIGNED + digest)


def check(operator: bytes, signature: bytes, digest: bytes) -> None:
    """Raises :class:`ExecMalformed` when ``operator`` (raw public key) did not sign this session."""
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(operator).verify(signature, _SIGNED + digest)
    except (InvalidSignature, ValueError):
        raise ExecMalformed("exec: the operator's signature is not over this session") from None


def pack_size(rows: int, columns: int) -> bytes:
    """What a `RESIZE` frame holds: rows and columns, two bytes each, big-endian; sides that cannot be are cut."""
    return b"".join(min(max(side, 1), MAX_SIDE).to_bytes(2, "big") for side in (rows, columns))


def unpack_size(data: bytes) -> tuple[int, int]:
    """(rows, columns). Raises :class:`ExecMalformed`."""
    rows, columns = int.from_bytes(data[:2], "big"), int.from_bytes(data[2:], "big")
    if len(data) != 4 or not 1 <= rows <= MAX_SIDE or not 1 <= columns <= MAX_SIDE:
        raise ExecMalformed(f"exec: a window of {data[:8].hex()}, want rows and columns of 1 to {MAX_SIDE}")
    return rows, columns
