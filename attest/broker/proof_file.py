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
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attest.audit.chain import parse_record
from attest.audit.checkpoint import Checkpoint, LogProof, checkpoint_of, parse_proof
from attest.audit.errors import AuditBroken, NoteMalformed, ProofInvalid
from attest.audit.merkle import leaf_hash, verify_inclusion
from attest.audit.note import ED25519, Verifier, verify_note
from attest.audit.record import DECISION
from attest.broker.presented import Memory
from attest.broker.repeat import repeat_record
from attest.store import blobs, records
from attest.store.engine import Database
from attest.store.errors import NotFound
from policy.strictjson import strict_json

SCHEMA = "attest.audit.proof/1"
MAX_FILE = 64 << 20
_MEMBERS = {"schema", "record", "proof", "blobs"}


@dataclass(frozen=True, slots=True)
class ProofFile:
    """The parts, parsed and unverified; ``blobs`` by digest (32 bytes)."""

    record: bytes
    proof: LogProof
    blobs: Mapping[bytes, bytes]

    def encode(self) -> bytes:
        """The file's bytes."""
        document = {
            "schema": SCHEMA,
            "record": self.record.decode("utf-8"),
            "proof": self.proof.encode().decode("utf-8"),
            "blobs": {key.hex(): base64.b64encode(data).decode("ascii") for key, data in sorted(self.blobs.items())},
        }
        return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


@dataclass(frozen=True, slots=True)
class Proven:
    """What a checked file says. ``repeated``: the decision was made again; ``False`` where there is none to repeat."""

    record: Mapping[str, Any]
    checkpoint: Checkpoint
    witnesses: tuple[str, ...]
    repeated: bool


def make_proof_file(database: Database, number: int, proof: LogProof) -> ProofFile:
    """The file for record ``number``, with every blob that repeating its decision reads. Raises NotFound."""
    used: dict[bytes, bytes] = {}
    with database.read() as tx:
        stored = records.get(tx, number)
        if stored is None:
            raise NotFound(f"audit record {number}: not found")

        def read(digest: bytes) -> bytes | None:
            data = blobs.get(tx, digest)
            if data is not None:
                used[digest] = data
            return data

        record: Any = parse_record(stored.record, f"audit record {number}")
        if stored.kind == DECISION:
            repeat_record(record, f"audit record {number}", read)
    return ProofFile(stored.record, proof, used)


def parse_proof_file(data: bytes) -> ProofFile:
    """Raises :class:`NoteMalformed` for anything but a complete file."""
    document = strict_json(data, "proof file", max_bytes=MAX_FILE, error=NoteMalformed)
    if not isinstance(document, dict) or set(document) != _MEMBERS or document["schema"] != SCHEMA:
        raise NoteMalformed(f"proof file: want the members of {SCHEMA}")
    if not all(isinstance(document[name], str) for name in ("record", "proof")):
        raise NoteMalformed("proof file: record and proof must be text")
    record, proof = _utf8(document["record"]), _utf8(document["proof"])
    return ProofFile(record, parse_proof(proof), _blobs(document["blobs"]))


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
    point = _check_checkpoint(file, log)
    seen = tuple(
        sorted({signed.verifier.name for signed in verify_note(file.proof.note, witnesses) if signed.time is not None})
    )
    if len(seen) < quorum:
        raise ProofInvalid(f"checkpoint: {len(seen)} of the known witnesses cosigned it, want {quorum}")
    verify_inclusion(leaf_hash(file.record), file.proof.entry, point.size, file.proof.path, point.root)
    what = f"audit record {file.proof.entry + 1}"
    record: Any = parse_record(file.record, what)
    if record.get("seq") != file.proof.entry + 1:
        raise AuditBroken(f"{what}: states number {str(record.get('seq'))[:40]}")
    repeated = record.get("kind") == DECISION and repeat_record(record, what, file.blobs.get, memory)
    return Proven(record, point, seen, repeated)


def _check_checkpoint(file: ProofFile, log: Verifier) -> Checkpoint:
    point = checkpoint_of(file.proof.note)
    if log.kind != ED25519 or point.origin != log.name:
        raise ProofInvalid(f"checkpoint: of the log {point.origin[:80]!r}, the key is that of {log.name!r}")
    if not verify_note(file.proof.note, [log]):
        raise ProofInvalid(f"checkpoint: not signed by the key of {log.name}")
    return point


def _blobs(value: object) -> dict[bytes, bytes]:
    if not isinstance(value, dict):
        raise NoteMalformed("proof file: blobs: want an object")
    found: dict[bytes, bytes] = {}
    for name, text in value.items():
        try:
            data = base64.b64decode(text, validate=True)
            digest = bytes.fromhex(name)
        except (TypeError, ValueError):
            raise NoteMalformed(f"proof file: blob {str(name)[:64]!r} is not base64 under a digest") from None
        if hashlib.sha256(data).digest() != digest or name != digest.hex():
            raise NoteMalformed(f"proof file: blob {name[:64]} has another digest")
        found[digest] = data
    return found


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise NoteMalformed("proof file: text with half of a surrogate pair") from None
