"""Checkpoints (C2SP tlog-checkpoint): a log's name, size and root, signed; and proof files (C2SP tlog-proof v1)."""

from __future__ import annotations

import re
from binascii import Error as BinasciiError
from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from attest.audit.errors import NoteMalformed
from attest.audit.merkle import HASH_BYTES, MAX_PATH
from attest.audit.note import Note, parse_note

MAX_SIZE = 2**63 - 1
PROOF_HEADER = "c2sp.org/tlog-proof@v1"
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")


class Checkpoint(NamedTuple):
    """``root`` has 32 bytes. Extension lines are refused: nobody audits them."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """What is signed: three lines."""
        return f"{self.origin}\n{self.size}\n{encode_hash(self.root)}\n"


class LogProof(NamedTuple):
    """A proof file: entry number ``entry`` (from 0) is in the tree of the checkpoint in ``note``, by ``path``."""

    entry: int
    path: tuple[bytes, ...]
    note: Note

    def encode(self) -> bytes:
        """The file's bytes."""
        lines = [PROOF_HEADER, f"index {self.entry}", *map(encode_hash, self.path), ""]
        return ("\n".join(lines) + "\n").encode() + self.note.encode()


def checkpoint_of(note: Note) -> Checkpoint:
    """The checkpoint that is a note's text, or :class:`NoteMalformed`. Its signatures are not looked at."""
    lines = note.text.split("\n")
    if len(lines) != 4 or lines[3] or not lines[0]:
        raise NoteMalformed(f"checkpoint: {len(lines) - 1} lines, want origin, size and root")
    return Checkpoint(lines[0], parse_size(lines[1], "checkpoint size"), decode_hash(lines[2], "checkpoint root"))


def parse_checkpoint(data: bytes) -> tuple[Checkpoint, Note]:
    """A checkpoint and the note that carries it."""
    note = parse_note(data)
    return checkpoint_of(note), note


def parse_proof(data: bytes) -> LogProof:
    """A proof file without extra data, or :class:`NoteMalformed`. Nothing is verified here."""
    head, gap, rest = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise NoteMalformed("proof: not ASCII before the checkpoint") from None
    if not gap or len(lines) < 2 or lines[0] != PROOF_HEADER or not lines[1].startswith("index "):
        raise NoteMalformed(f"proof: want {PROOF_HEADER}, then index, hashes, an empty line and a checkpoint")
    if len(lines) - 2 > MAX_PATH:
        raise NoteMalformed(f"proof: {len(lines) - 2} hashes, want at most {MAX_PATH}")
    path = tuple(decode_hash(line, "proof hash") for line in lines[2:])
    return LogProof(parse_size(lines[1].removeprefix("index "), "proof index"), path, _note(rest))


_note = lru_cache(16)(parse_note)  # of many proofs most stand under one checkpoint


def parse_size(text: str, what: str) -> int:
    """A decimal without leading zeroes, at most 2^63 - 1."""
    if not _DECIMAL.fullmatch(text) or int(text) > MAX_SIZE:
        raise NoteMalformed(f"{what}: got {text[:40]!r}, want a decimal below 2^63")
    return int(text)


def encode_hash(value: bytes) -> str:
    """A hash as base64."""
    return b2a_base64(value, newline=False).decode("ascii")


@lru_cache(4096)  # the upper half of many paths is one and the same
def decode_hash(text: str, what: str) -> bytes:
    """32 bytes from base64 in its only spelling, or :class:`NoteMalformed`."""
    try:
        value = a2b_base64(text, strict_mode=True)
    except (BinasciiError, ValueError):
        value = b""
    if len(value) != HASH_BYTES or encode_hash(value) != text:
        raise NoteMalformed(f"{what}: got {text[:60]!r}, want base64 of {HASH_BYTES} bytes")
    return value


def hash_lines(hashes: Sequence[bytes]) -> str:
    """Hashes as lines of base64, each with its newline."""
    return "".join(f"{encode_hash(item)}\n" for item in hashes)
