"""Errors of the audit trail."""

from __future__ import annotations

from attest.errors import AttestError


class AuditBroken(AttestError):
    """The audit trail was changed: a record altered, removed, reordered, or the bytes it names are gone."""

    code = "audit.broken"
