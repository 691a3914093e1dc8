"""Errors as exit codes and as text on standard error."""

from __future__ import annotations

import json

from attest.audit.errors import AuditBroken, ProofInvalid
from attest.broker.errors import BackupRefused, RotationState
from attest.cli.operator import ServiceState
from attest.collateral.errors import BundleRefused
from attest.endorsement.errors import VerificationFailed
from attest.errors import AttestError
from attest.keys.errors import KeyFileRefused, SealBroken
from attest.keys.statement import SignatureRefused
from attest.store.errors import AlreadyExists, NotFound, StoreUnsupported
from policy.errors import ConfigInvalid, CvmError, MalformedInput

# The first class that fits counts.
_CODES: tuple[tuple[type[Exception], int], ...] = (
    (ConfigInvalid, 3),
    (MalformedInput, 5),
    (VerificationFailed, 6),
    (AuditBroken, 6),
    (ProofInvalid, 6),
    (SealBroken, 6),
    (BundleRefused, 6),
    (BackupRefused, 10),
    (SignatureRefused, 6),
    (AlreadyExists, 10),
    (NotFound, 10),
    (ServiceState, 10),
    (RotationState, 10),
    (KeyFileRefused, 3),
    (StoreUnsupported, 3),
)


def exit_code(error: Exception) -> int:
    """By class; then whose fault it is: unavailable 8, anything else of ours that a person can set right 3."""
    for cls, code in _CODES:
        if isinstance(error, cls):
            return code
    if isinstance(error, AttestError) and error.kind == "unavailable":
        return 8
    return 3 if isinstance(error, CvmError) else 1


def failure_text(error: Exception, *, as_json: bool) -> str:
    """One object with ``code``, ``message``, ``hint``; or one line, and the hint on another."""
    code, hint = getattr(error, "code", "error"), getattr(error, "hint", None)
    if as_json:
        return json.dumps({"code": code, "message": str(error), "hint": hint})
    return f"attest: {error}" + (f"\n  hint: {hint}" if hint else "")
