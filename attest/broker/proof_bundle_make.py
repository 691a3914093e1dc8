"""Writing a proof bundle (:mod:`attest.broker.proof_bundle`): block by block, whatever the number of records."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, NamedTuple

from sqlalchemy import Connection

from attest.audit.canonical import Json, written
from attest.audit.checkpoint import checkpoint_of, encode_hash
from attest.audit.merkle import complete_subtrees
from attest.audit.note import Note
from attest.broker.presented import Memory
from attest.broker.proof_bundle import MOST, SCHEMA
from attest.broker.proof_file_make import blobs_of
from attest.store import records, tree
from attest.store.engine import Database
from attest.store.errors import NotFound


class _Entry(NamedTuple):
    """A record and all it rests on, by digest."""

    record: bytes
    used: Mapping[bytes, bytes]


def write_bundle(database: Database, note: Note, numbers: range, out: BinaryIO) -> int:
    """The proofs of ``numbers`` (from 1, one after the other) under the checkpoint ``note``; the bytes written.

    Raises NotFound where the log of the checkpoint has not all of them, and whatever ``out`` raises.
    """
    size = checkpoint_of(note).size
    if not numbers or numbers.start < 1 or numbers.stop - 1 > size:
        raise NotFound(f"audit records {numbers.start} to {numbers.stop - 1}: not in the log of {size}")
    length = out.write(_line({"checkpoint": note.encode().decode(), "schema": SCHEMA}))
    shared: set[bytes] = set()
    memory = Memory()
    for level, index in complete_subtrees(numbers.start - 1, numbers.stop - 1, MOST.bit_length() - 1):
        with database.read() as tx:
            first, count = (index << level) + 1, 1 << level
            entries = list(_entries(tx, first, count, memory))
            path = tree.inclusion(tx, first - 1, size)[level:]
        for line in _lines(first, entries, path, shared):
            length += out.write(line)
    return length


def _entries(tx: Connection, first: int, count: int, memory: Memory) -> Iterator[_Entry]:
    for number in range(first, first + count):
        stored = records.get(tx, number)
        if stored is None:
            raise NotFound(f"audit record {number}: not found")
        yield _Entry(stored.record, blobs_of(tx, stored, memory))


def _lines(first: int, entries: Sequence[_Entry], path: Sequence[bytes], shared: set[bytes]) -> Iterator[bytes]:
    """The lines of one block, before them what it adds to ``shared``."""
    used = {digest: data for entry in entries for digest, data in entry.used.items() if digest not in shared}
    often = Counter(digest for entry in entries for digest in entry.used)
    more = {digest: data for digest, data in used.items() if often[digest] > 1}
    if more:
        shared.update(more)
        yield _line({"shared": {digest.hex(): _base64(data) for digest, data in more.items()}})
    lines = []
    for record, parts in entries:
        lines += [_line([_base64(data) for digest, data in parts.items() if digest not in shared]), record, b"\n"]
    block = b"".join(lines)
    yield _line({
        "bytes": len(block), "count": len(entries), "first": first, "path": [encode_hash(item) for item in path]
    })  # fmt: skip
    yield block


def _line(value: Json) -> bytes:
    return written(value) + b"\n"


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")
