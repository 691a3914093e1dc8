"""A proof file: one audit record, the proof that the log holds it, and the bytes its decision rests on.

JSON, schema ``attest.audit.proof/1``:

    record   the record's canonical text
    proof    C2SP tlog-proof text: index, audit path, checkpoint with the signatures of log and witnesses
    decision of a release: record and proof, as above, of the decision it rests on
    blobs    SHA-256 (hex) to base64: evidence, endorsements, collateral, policy, reference values

Checking needs the log's public key and nothing else: (1) the checkpoint is signed by the log, and by as many of the
known witnesses as asked for; (2) the record is the entry of that number in the checkpoint's tree; (3) every blob has
its digest; (4) a decision comes out the same when it is made again from these bytes, by the policy and at the time on
record; (5) a release and its decision, which is checked likewise, name the same guest, key, chip and measurement.
A decision that rests on a test root says so: the chip was emulated.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from attest.audit.checkpoint import Checkpoint, LogProof, checkpoint_of, parse_proof
from attest.audit.errors import AuditBroken, NoteMalformed, ProofInvalid
from attest.audit.merkle import leaf_hash, verify_inclusion
from attest.audit.note import ED25519, Note, Verifier, verify_note
from attest.broker.presented import Memory
from attest.broker.proof_form import read_blob, read_form, write_form
from attest.broker.proof_rests import check_rests
from attest.broker.repeat import check_record


class Entry(NamedTuple):
    """A record's bytes, and the proof that the log holds it."""

    record: bytes
    proof: LogProof

    def texts(self) -> tuple[str, str]:
        """Both as they stand in the file."""
        return self.record.decode("utf-8"), self.proof.encode().decode("utf-8")


@dataclass(frozen=True, slots=True)
class ProofFile:
    """The parts, parsed and unverified; ``blobs`` by their digest (32 bytes), which was compared."""

    entry: Entry
    blobs: Mapping[bytes, bytes]
    decision: Entry | None = None

    def encode(self) -> bytes:
        """The file's bytes."""
        blobs = {key.hex(): base64.b64encode(data).decode("ascii") for key, data in sorted(self.blobs.items())}
        return write_form(*self.entry.texts(), blobs, None if self.decision is None else self.decision.texts())


@dataclass(frozen=True, slots=True)
class Proven:
    """What a checked proof says. ``repeated``: the decision was made again; ``False`` where there is none to repeat.

    ``text`` is the record's, canonical; ``brief`` its members, of a repeated decision without the findings.
    ``decision`` is the record of the decision that a release rests on, where the file has it: it was made again.
    """

    text: bytes
    brief: Mapping[str, Any]
    checkpoint: Checkpoint
    witnesses: tuple[str, ...]
    repeated: bool
    decision: Mapping[str, Any] | None = None

    @property
    def record(self) -> dict[str, Any]:
        """All members of the record."""
        found: dict[str, Any] = orjson.loads(self.text)
        return found


def parse_proof_file(data: bytes, memory: Memory | None = None) -> ProofFile:
    """Raises :class:`NoteMalformed` for anything but a complete file. With ``memory`` blobs met before are not decoded
    again.
    """
    form = read_form(data)
    read = read_blob if memory is None else memory.shelf.blob
    found = [read(name, text) for name, text in form.blobs.items()]
    decision = None if form.decision is None else _entry(*form.decision)
    return ProofFile(_entry(form.record, form.proof), {blob.digest: blob.data for blob in found}, decision)


def _entry(record: str, proof: str) -> Entry:
    return Entry(_utf8(record), parse_proof(_utf8(proof)))


def check_proof_file(
    file: ProofFile,
    log: Verifier,
    *,
    witnesses: Sequence[Verifier] = (),
    quorum: int = 0,
    memory: Memory | None = None,
) -> Proven:
    """All five checks. ``memory`` is for many files: chains that were verified are not verified again.
    Raises :class:`ProofInvalid` (log, witnesses, inclusion) or :class:`AuditBroken` (record)."""
    point, seen = checked_checkpoint(file.entry.proof.note, log, tuple(witnesses), quorum)
    record, repeated = _check_entry(file.entry, point, file.blobs, memory)
    decision = None if file.decision is None else _check_decision(file, file.decision, point, memory)
    if decision is not None:
        check_rests(record, decision)
    return Proven(file.entry.record, record, point, seen, repeated, decision)


def _check_entry(
    entry: Entry, point: Checkpoint, blobs: Mapping[bytes, bytes], memory: Memory | None
) -> tuple[Mapping[str, Any], bool]:
    """The record is in the log, and what :func:`check_numbered` says of it."""
    verify_inclusion(leaf_hash(entry.record), entry.proof.entry, point.size, entry.proof.path, point.root)
    return check_numbered(entry.record, entry.proof.entry + 1, blobs, memory)


def _check_decision(file: ProofFile, entry: Entry, point: Checkpoint, memory: Memory | None) -> Mapping[str, Any]:
    """All members of the record of the decision, which stands under the same checkpoint and was made again."""
    if entry.proof.note != file.entry.proof.note:
        raise ProofInvalid("decision: its proof stands under another checkpoint than the record's")
    _, repeated = _check_entry(entry, point, file.blobs, memory)
    if not repeated:
        raise AuditBroken(f"audit record {entry.proof.entry + 1}: not a decision that could be made again")
    found: dict[str, Any] = orjson.loads(entry.record)
    return found


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
