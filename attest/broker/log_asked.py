"""What others ask of the audit log over the operators' listener: a checkpoint now, proofs under the newest one.

Nothing is signed here. A proof is made under the newest checkpoint that there is; one that covers the newest record is
asked for by :func:`ask_checkpoint` and comes a moment later.
"""

from __future__ import annotations

from io import BytesIO

from attest.audit.checkpoint import checkpoint_of
from attest.audit.errors import ProofInvalid
from attest.audit.note import Note, parse_note
from attest.broker.consistency_file import make_consistency_file
from attest.broker.errors import RequestMalformed, RequestUnsupported
from attest.broker.log_served import newest_checkpoint
from attest.broker.proof_bundle_make import write_bundle
from attest.broker.proof_file_make import make_proof_file
from attest.broker.service import Service
from attest.store import checkpoints
from attest.store.engine import Database

MOST = 500
"""Records in one answer: the listener has one process, and slows others."""


def ask_checkpoint(service: Service) -> int:
    """Have one signed; how many records the log has now, which it will cover. Raises RequestUnsupported."""
    if service.bell is None or service.log_seen is None:
        raise RequestUnsupported("audit log: nobody signs it here, the settings have no [audit]")
    with service.database.read() as tx:
        size = checkpoints.size_of_log(tx)
    service.bell.ring()
    return size


def proof_of(database: Database, number: int, to: int | None) -> bytes:
    """The proof file of one record, or the bundle of those up to ``to``. Raises NotFound, RequestMalformed."""
    note = _newest(database)
    if to is None:
        return make_proof_file(database, number, note).encode()
    if not number <= to < number + MOST:
        raise RequestMalformed(f"to: got {to}, want {number} to {number + MOST - 1}: at most {MOST} records at once")
    out = BytesIO()
    write_bundle(database, note, range(number, to + 1), out)
    return out.getvalue()


def growth_since(database: Database, old: bytes) -> bytes:
    """The file that proves the newest checkpoint to extend ``old``. Raises RequestMalformed, NoteMalformed."""
    note = _newest(database)
    try:
        return make_consistency_file(database, old, note)
    except ProofInvalid as exc:
        raise RequestMalformed(f"{exc.message} ({checkpoint_of(note).origin})") from None


def _newest(database: Database) -> Note:
    return parse_note(newest_checkpoint(database))
