"""Errors of the audit trail."""

from __future__ import annotations

from attest.errors import AttestError, Kind
from policy.errors import MalformedInput


class AuditBroken(AttestError):
    """The audit trail was changed: a record altered, removed, reordered, or the bytes it names are gone."""

    code = "audit.broken"


class NoteMalformed(AttestError, MalformedInput):
    """A signed note, checkpoint, proof or tile that does not parse completely."""

    code = "audit.note"
    kind: Kind = "guest"


class ProofInvalid(AttestError):
    """A proof or signature of a log that does not verify: the log, or whoever handed out the proof, is wrong."""

    code = "audit.proof"
    kind: Kind = "guest"
