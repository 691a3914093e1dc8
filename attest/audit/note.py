"""Signed notes (C2SP signed-note v1): text, then one line per signature. Ed25519 and Ed25519 cosignatures.

    text, ending in a newline
    (an empty line)
    — key name base64(key id || signature)

The key id is the first four bytes of SHA-256(name || 0x0A || type || public key); type 1 signs the text as it stands,
type 4 (C2SP tlog-cosignature) signs ``cosignature/v1``, a time and the text, and carries that time. Signatures of
unknown keys are ignored; a known key whose signature is wrong refuses the whole note.
"""

from __future__ import annotations

import base64
import hashlib
import re
from binascii import Error as BinasciiError
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from attest.audit.errors import NoteMalformed, ProofInvalid

ED25519, COSIGNATURE = 1, 4
MAX_NOTE = 64 * 1024
MAX_SIGNATURES = 64
_LINE = re.compile("— ([^ +]+) ([A-Za-z0-9+/]+={0,2})\n")
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f]")
_SPACE_OR_PLUS = re.compile(r"[\s+]")


class Verifier(NamedTuple):
    """A public key with a name. ``kind`` is :data:`ED25519` or :data:`COSIGNATURE`; ``key`` has 32 bytes."""

    name: str
    kind: int
    key: bytes

    @property
    def key_id(self) -> bytes:
        """Four bytes that mark the key's signature lines."""
        return hashlib.sha256(f"{self.name}\n".encode() + bytes([self.kind]) + self.key).digest()[:4]

    @property
    def vkey(self) -> str:
        """The key as text: ``name+hex key id+base64(type || key)``."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(bytes([self.kind]) + self.key).decode()}"

    @classmethod
    def parse(cls, text: str) -> Verifier:
        """From :attr:`vkey`, or :class:`NoteMalformed`."""
        name, _, rest = text.strip().partition("+")
        mark, _, encoded = rest.partition("+")
        raw = _base64(encoded, "public key")
        if not _named(name) or len(raw) != 33 or raw[0] not in (ED25519, COSIGNATURE):
            raise NoteMalformed(f"public key {text[:80]!r}: want name+id+key of an Ed25519 key")
        found = cls(name, raw[0], raw[1:])
        if found.key_id.hex() != mark:
            raise NoteMalformed(f"public key {text[:80]!r}: its id is {found.key_id.hex()}, the text says {mark[:16]}")
        return found


class NoteSignature(NamedTuple):
    """One signature line: ``value`` is what follows the four bytes of the key id."""

    name: str
    key_id: bytes
    value: bytes

    @property
    def line(self) -> str:
        """The line, newline included."""
        return f"— {self.name} {base64.b64encode(self.key_id + self.value).decode()}\n"


class Note(NamedTuple):
    """``text`` ends in a newline."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def encode(self) -> bytes:
        """The note's bytes."""
        return (self.text + "\n" + "".join(signature.line for signature in self.signatures)).encode()


class Signed(NamedTuple):
    """A known key's signature that verified; ``time`` is the cosignature's POSIX time, ``None`` for a plain one."""

    verifier: Verifier
    time: int | None


def parse_note(data: bytes) -> Note:
    """Split a note, or raise :class:`NoteMalformed`. Nothing is verified here."""
    if len(data) > MAX_NOTE:
        raise NoteMalformed(f"note: {len(data)} bytes, want at most {MAX_NOTE}")
    try:
        whole = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise NoteMalformed(f"note: byte {exc.start} is not UTF-8") from None
    if _CONTROL.search(whole):
        raise NoteMalformed("note: control character")
    text, gap, lines = whole.rpartition("\n\n")
    if not gap or not text:
        raise NoteMalformed("note: no empty line before the signatures")
    return Note(text + "\n", parse_signatures(lines))


def parse_signatures(lines: str) -> tuple[NoteSignature, ...]:
    """One or more signature lines, each with its newline, or :class:`NoteMalformed`."""
    found: list[NoteSignature] = []
    place = 0
    while place < len(lines):
        match = _LINE.match(lines, place)
        if match is None or len(found) >= MAX_SIGNATURES:
            raise NoteMalformed(f"note: signature line {len(found) + 1} is malformed or one too many")
        raw = _base64(match[2], "signature")
        if len(raw) < 5 or not _named(match[1]):
            raise NoteMalformed(f"note: signature line {len(found) + 1} holds no signature")
        found.append(NoteSignature(match[1], raw[:4], raw[4:]))
        place = match.end()
    if not found:
        raise NoteMalformed("note: no signature")
    return tuple(found)


def sign(text: str, name: str, key: Ed25519PrivateKey) -> NoteSignature:
    """A plain signature over ``text``."""
    verifier = verifier_of(name, key)
    return NoteSignature(name, verifier.key_id, key.sign(text.encode()))


def cosign(text: str, name: str, key: Ed25519PrivateKey, time: int) -> NoteSignature:
    """A witness's cosignature over checkpoint ``text`` at POSIX ``time``."""
    verifier = verifier_of(name, key, COSIGNATURE)
    return NoteSignature(name, verifier.key_id, time.to_bytes(8, "big") + key.sign(_cosigned(text, time)))


def verifier_of(name: str, key: Ed25519PrivateKey, kind: int = ED25519) -> Verifier:
    """The public half of ``key`` under ``name``."""
    if not _named(name):
        raise NoteMalformed(f"key name {name[:80]!r}: want no spaces and no '+'")
    return Verifier(name, kind, key.public_key().public_bytes_raw())


def verify_note(note: Note, known: Iterable[Verifier]) -> tuple[Signed, ...]:
    """The known keys that signed, in the order of the lines; possibly none. Raises :class:`ProofInvalid` for a known
    key whose signature is wrong.
    """
    keys = {(verifier.name, verifier.key_id): verifier for verifier in known}
    found: list[Signed] = []
    for signature in note.signatures:
        verifier = keys.get((signature.name, signature.key_id))
        if verifier is not None:
            found.append(Signed(verifier, _verify(note.text, signature, verifier)))
    return tuple(found)


# Many proofs stand under one checkpoint: its signatures are verified once. What does not verify is not remembered.
@lru_cache(256)
def _verify(text: str, signature: NoteSignature, verifier: Verifier) -> int | None:
    value, time = signature.value, None
    message = text.encode()
    if verifier.kind == COSIGNATURE:
        time = int.from_bytes(value[:8], "big")
        message, value = _cosigned(text, time), value[8:]
    try:
        Ed25519PublicKey.from_public_bytes(verifier.key).verify(value, message)
    except (InvalidSignature, ValueError):
        raise ProofInvalid(f"note: the signature of {verifier.name} does not verify") from None
    return time


def _cosigned(text: str, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def _named(name: str) -> bool:
    return bool(name) and not _SPACE_OR_PLUS.search(name)


def _base64(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (BinasciiError, ValueError):
        raise NoteMalformed(f"note: {what} {text[:40]!r} is not base64") from None
