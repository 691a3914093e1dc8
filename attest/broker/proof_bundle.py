"""Proofs of many records in one file: what they share once, and one audit path for as many as 256 of them.

Lines of JSON, schema ``attest.audit.bundle/1``; the first names the checkpoint that all of it stands under:

    {"checkpoint": NOTE, "schema": "attest.audit.bundle/1"}
    {"shared": {SHA-256 (hex): base64, …}}                         bytes that records below rest on, several of them
    {"bytes": B, "count": C, "first": N, "path": [base64, …]}      records N to N + C - 1 follow, in B bytes of lines:
    [base64, …]                                                    for each what no other record rests on,
    {…}                                                            and the record, as it stands in the log

The two kinds in the middle take turns as they need: what is shared stands before whatever rests on it. C is a power of
two, at most 256, and N - 1 a multiple of it: the records of a block are a whole subtree, from whose root ``path`` leads
to the checkpoint's. A block is checked by itself, so processes can share the blocks of a file. Checking means what it
means for a proof file (:mod:`attest.broker.proof_file`).
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from attest.audit.checkpoint import checkpoint_of, decode_hash
from attest.audit.errors import NoteMalformed
from attest.audit.merkle import MAX_PATH, leaf_hash, verify_subtree
from attest.audit.note import Note, Verifier, parse_note
from attest.broker.presented import Memory
from attest.broker.proof_file import Proven, check_numbered, checked_checkpoint
from attest.broker.proof_form import MAX_FILE, read_blob
from policy.errors import CvmError
from policy.strictjson import strict_json

SCHEMA = "attest.audit.bundle/1"
START = b'{"checkpoint":'
"""How every bundle begins."""

MOST = 256
"""Records of one block."""

_BLOCK = {"bytes", "count", "first", "path"}


@dataclass(frozen=True, slots=True)
class Block:
    """Records ``first`` (from 1) to ``first + count - 1``, in ``size`` bytes from ``offset`` on."""

    first: int
    count: int
    path: tuple[bytes, ...]
    offset: int
    size: int


class Checked(NamedTuple):
    """What became of one record: what it says, or why it proves nothing."""

    number: int
    proven: Proven | None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Trust:
    """What proofs are checked with: the log's key, the known witnesses, and how many of them must have cosigned."""

    log: Verifier
    witnesses: tuple[Verifier, ...] = ()
    quorum: int = 0


class _Kept(dict[bytes, bytes]):
    """A record's own bytes by their digest, and behind them those it shares."""

    __slots__ = ("_shared",)

    def __init__(self, own: Sequence[bytes], shared: dict[bytes, bytes]) -> None:
        super().__init__((hashlib.sha256(data).digest(), data) for data in own)
        self._shared = shared

    def __missing__(self, digest: bytes) -> bytes:
        return self._shared[digest]


class Bundle:
    """A bundle's checkpoint and blocks. Raises :class:`NoteMalformed` for what is none, and ``OSError``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.blocks: list[Block] = []
        self._lines: list[tuple[int, int]] = []  # those with shared bytes: offset, length
        with path.open("rb") as file:
            self.note = _checkpoint(_line(file))
            self._scan(file)

    def check(self, block: Block, trust: Trust, memory: Memory) -> Iterator[Checked]:
        """Each record of a block in turn. Raises :class:`ProofInvalid` or :class:`NoteMalformed` where there is no
        believing any of it.
        """
        point, seen = checked_checkpoint(self.note, trust.log, trust.witnesses, trust.quorum)
        entries, shared = self._entries(block), self._shared
        leaves = [leaf_hash(record) for _, record in entries]
        verify_subtree(leaves, block.first - 1, point.size, block.path, point.root)
        for number, (own, record) in enumerate(entries, block.first):
            try:
                brief, repeated = check_numbered(record, number, _Kept(_own(own), shared), memory)
            except CvmError as exc:
                yield Checked(number, None, exc.message)
            else:
                yield Checked(number, Proven(record, brief, point, seen, repeated))

    def _scan(self, file: BinaryIO) -> None:
        """Find the blocks; what is in them is read when they are checked."""
        while line := _line(file):
            document = _json(line)
            if isinstance(document, dict) and set(document) == {"shared"}:
                self._lines.append((file.tell() - len(line), len(line)))
                continue
            block = _block(document, file.tell())
            self.blocks.append(block)
            file.seek(block.offset + block.size)
        if not self.blocks:
            raise NoteMalformed("proof bundle: no records")

    def _entries(self, block: Block) -> list[tuple[bytes, bytes]]:
        """The line with its own bytes and that of the record, for each record."""
        lines = self._bytes(block.offset, block.size).split(b"\n")
        if len(lines) != 2 * block.count + 1 or lines.pop():
            raise NoteMalformed(f"proof bundle: block of record {block.first}: want {2 * block.count} whole lines")
        return list(zip(lines[::2], lines[1::2], strict=True))

    @cached_property
    def _shared(self) -> dict[bytes, bytes]:
        """All shared bytes by their digest."""
        if sum(length for _, length in self._lines) > MAX_FILE:
            raise NoteMalformed(f"proof bundle: more than {MAX_FILE} bytes of lines with shared bytes")
        found = {}
        for offset, length in self._lines:
            document: Any = _json(self._bytes(offset, length))
            if not isinstance(document["shared"], dict):
                raise NoteMalformed("proof bundle: shared: want an object")
            for name, text in document["shared"].items():
                blob = read_blob(name, text)
                found[blob.digest] = blob.data
        return found

    def _bytes(self, offset: int, length: int) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(offset)
                return file.read(length)
        except OSError as exc:
            raise NoteMalformed(f"proof bundle: {exc.strerror}") from None


def is_bundle(data: bytes) -> bool:
    """Whether a file that begins with ``data`` means to be a bundle."""
    return data.startswith(START)


def _line(file: BinaryIO) -> bytes:
    line = file.readline(MAX_FILE + 1)
    if line and not line.endswith(b"\n"):
        raise NoteMalformed("proof bundle: cut off, or a line is too long")
    return line


def _json(line: bytes) -> Any:
    return strict_json(line, "proof bundle", max_bytes=MAX_FILE, error=NoteMalformed)


def _checkpoint(line: bytes) -> Note:
    document = _json(line)
    if not isinstance(document, dict) or set(document) != {"checkpoint", "schema"} or document["schema"] != SCHEMA:
        raise NoteMalformed(f"proof bundle: want the first line of {SCHEMA}")
    if not isinstance(document["checkpoint"], str):
        raise NoteMalformed("proof bundle: checkpoint: want text")
    note = parse_note(document["checkpoint"].encode("utf-8", "replace"))
    checkpoint_of(note)
    return note


def _block(document: object, offset: int) -> Block:
    if not isinstance(document, dict) or set(document) != _BLOCK:
        raise NoteMalformed(f"proof bundle: want shared bytes, or a block with {', '.join(sorted(_BLOCK))}")
    size, count, first, path = (document[name] for name in ("bytes", "count", "first", "path"))
    if not _number(size, MAX_FILE) or not _number(count, MOST) or not _number(first, 2**63 - 1):
        raise NoteMalformed(f"proof bundle: block: want at most {MAX_FILE} bytes and {MOST} records, numbered from 1")
    if not isinstance(path, list) or len(path) > MAX_PATH or not all(isinstance(item, str) for item in path):
        raise NoteMalformed(f"proof bundle: block of record {first}: path: want at most {MAX_PATH} hashes")
    return Block(first, count, tuple([decode_hash(item, "proof hash") for item in path]), offset, size)


def _number(value: object, most: int) -> bool:
    return type(value) is int and 0 < value <= most


def _own(line: bytes) -> list[bytes]:
    try:
        texts = orjson.loads(line)
        if isinstance(texts, list):
            return [binascii.a2b_base64(text, strict_mode=True) for text in texts]
    except (TypeError, ValueError):
        pass
    raise NoteMalformed("proof bundle: a record's own bytes: want a list of base64")
