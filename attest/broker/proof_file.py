"""A proof file: one audit record, the proof that the log holds it, and the bytes its decision rests on.

JSON, schema ``attest.audit.proof/1``:

    record   the record's canonical text
    proof    C2SP tlog-proof text: index, audit path, checkpoint with the signatures of log and witnesses
    blobs    SHA-256 (hex) to base64: evidence, endorsements, collateral, policy, reference values

Checking needs the log's public key and nothing else: (1) the checkpoint is signed by the log, and by as many of the
known witnesses as asked for; (2) the record is the entry of that number in the checkpoint's tree; (3) every blob has
its digest; (4) a decision comes out the same when it is made again from these bytes, by the policy and at the time on
record. A decision that rests on a test root says so: the chip was emulated.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import Connection

from attest.audit.chain import parse_record
from attest.audit.checkpoint import Checkpoint, LogProof, checkpoint_of, parse_proof
from attest.audit.errors import AuditBroken, NoteMalformed, ProofInvalid
from attest.audit.merkle import leaf_hash, verify_inclusion
from attest.audit.note import ED25519, Note, Verifier, verify_note
from attest.audit.record import DECISION
from attest.broker.presented import Memory
from attest.broker.proof_form import read_blob, read_form, write_form
from attest.broker.repeat import check_record, repeat_record
from attest.store import blobs, records
from attest.store.engine import Database
from attest.store.errors import NotFound
from attest.store.records import StoredRecord


@dataclass(frozen=True, slots=True)
class ProofFile:
    """The parts, parsed and unverified; ``blobs`` by their digest (32 bytes), which was compared."""

    record: bytes
    proof: LogProof
    blobs: Mapping[bytes, bytes]

    def encode(self) -> bytes:
        """The file's bytes."""
        blobs = {key.hex(): base64.b64encode(data).decode("ascii") for key, data in sorted(self.blobs.items())}
        return write_form(self.record.decode("utf-8"), self.proof.encode().decode("utf-8"), blobs)


@dataclass(frozen=True, slots=True)
class Proven:
    """What a checked proof says. ``repeated``: the decision was made again; ``False`` where there is none to repeat.

    ``text`` is the record's, canonical; ``brief`` its members, of a repeated decision without the findings.
    """

    text: bytes
    brief: Mapping[str, Any]
    checkpoint: Checkpoint
    witnesses: tuple[str, ...]
    repeated: bool

    @property
    def record(self) -> dict[str, Any]:
        """All members of the record."""
        found: dict[str, Any] = orjson.loads(self.text)
        return found


def make_proof_file(database: Database, number: int, proof: LogProof) -> ProofFile:
    """The file for record ``number``, with every blob that repeating its decision reads. Raises NotFound."""
    with database.read() as tx:
        stored = records.get(tx, number)
        if stored is None:
            raise NotFound(f"audit record {number}: not found")
        return ProofFile(stored.record, proof, blobs_of(tx, stored))


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


def parse_proof_file(data: bytes, memory: Memory | None = None) -> ProofFile:
    """Raises :class:`NoteMalformed` for anything but a complete file. With ``memory`` blobs met before are not decoded
    again.
    """
    record, proof, blobs = read_form(data)
    read = read_blob if memory is None else memory.shelf.blob
    found = [read(name, text) for name, text in blobs.items()]
    return ProofFile(_utf8(record), parse_proof(_utf8(proof)), {blob.digest: blob.data for blob in found})


def check_proof_file(
    file: ProofFile,
    log: Verifier,
    *,
    witnesses: Sequence[Verifier] = (),
    quorum: int = 0,
    memory: Memory | None = None,
) -> Proven:
    """All four checks. ``memory`` is for many files: chains that were verified are not verified again.
    Raises :class:`ProofInvalid` (log, witnesses, inclusion) or :class:`AuditBroken` (record)."""
    point, seen = checked_checkpoint(file.proof.note, log, tuple(witnesses), quorum)
    verify_inclusion(leaf_hash(file.record), file.proof.entry, point.size, file.proof.path, point.root)
    record, repeated = check_numbered(file.record, file.proof.entry + 1, file.blobs, memory)
    return Proven(file.record, record, point, seen, repeated)


def check_numbered(
    record: bytes, number: int, blobs: Mapping[bytes, bytes], memory: Memory | None
) -> tuple[Mapping[str, Any], bool]:
    """As :func:`attest.broker.repeat.check_record`, for a record that must state its ``number``."""
    what = f"audit record {number}"
    found, repeated = check_record(record, what, blobs, memory)
    if found.get("seq") != number:
        raise AuditBroken(f"{what}: states number {str(found.get('seq'))[:40]}")
    return found, repeated


# Many proofs stand under one checkpoint; what does not hold is not remembered.
@lru_cache(256)
def checked_checkpoint(
    note: Note, log: Verifier, witnesses: tuple[Verifier, ...], quorum: int
) -> tuple[Checkpoint, tuple[str, ...]]:
    """The checkpoint that the log signed, and the names of the ``witnesses`` that cosigned it, at least ``quorum``.

    Raises :class:`ProofInvalid`.
    """
    point = checkpoint_of(note)
    if log.kind != ED25519 or point.origin != log.name:
        raise ProofInvalid(f"checkpoint: of the log {point.origin[:80]!r}, the key is that of {log.name!r}")
    if not verify_note(note, [log]):
        raise ProofInvalid(f"checkpoint: not signed by the key of {log.name}")
    seen = {signed.verifier.name for signed in verify_note(note, witnesses) if signed.time is not None}
    if len(seen) < quorum:
        raise ProofInvalid(f"checkpoint: {len(seen)} of the known witnesses cosigned it, want {quorum}")
    return point, tuple(sorted(seen))


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise NoteMalformed("proof file: text with half of a surrogate pair") from None
