"""Writing a proof file (:mod:`attest.broker.proof_file`): of a release, with the decision it rests on."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from attest.audit.chain import parse_record
from attest.audit.checkpoint import LogProof, checkpoint_of
from attest.audit.note import Note
from attest.audit.record import DECISION
from attest.broker.presented import Memory
from attest.broker.proof_file import Entry, ProofFile
from attest.broker.proof_rests import decision_named
from attest.broker.repeat import repeat_record
from attest.store import blobs, records, tree
from attest.store.engine import Database
from attest.store.errors import NotFound
from attest.store.records import StoredRecord


def make_proof_file(database: Database, number: int, note: Note) -> ProofFile:
    """The file for record ``number`` (from 1) in the log that ``note`` is the checkpoint of, with every blob that
    repeating its decision reads. Raises NotFound.
    """
    with database.read() as tx:
        stored, record = _entry(tx, number, note)
        named = decision_named(parse_record(stored.record, f"audit record {number}"))
        if named is None:
            return ProofFile(record, blobs_of(tx, stored))
        decision, its_record = _entry(tx, named, note)
        return ProofFile(record, blobs_of(tx, decision), its_record)


def _entry(tx: Connection, number: int, note: Note) -> tuple[StoredRecord, Entry]:
    size = checkpoint_of(note).size
    stored = records.get(tx, number)
    if not 0 < number <= size or stored is None:
        raise NotFound(f"audit record {number}: not in the log of {size}")
    return stored, Entry(stored.record, LogProof(number - 1, tuple(tree.inclusion(tx, number - 1, size)), note))


def blobs_of(tx: Connection, stored: StoredRecord, memory: Memory | None = None) -> dict[bytes, bytes]:
    """Every blob that repeating the decision of a record reads, by digest (32 bytes)."""
    used: dict[bytes, bytes] = {}

    def read(digest: bytes) -> bytes | None:
        data = blobs.get(tx, digest)
        if data is not None:
            used[digest] = data
        return data

    what = f"audit record {stored.seq}"
    record: Any = parse_record(stored.record, what)
    if stored.kind == DECISION:
        repeat_record(record, what, read, memory)
    return used
