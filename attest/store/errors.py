"""Errors of the store: unavailable (retry), or a database this release cannot use."""

from __future__ import annotations

from attest.errors import AttestError, Kind


class StoreUnavailable(AttestError):
    """The database could not be read or written now: locked, full, read-only, gone. Nothing was changed."""

    code = "store.unavailable"
    kind: Kind = "unavailable"


class StoreUnsupported(AttestError):
    """The database file is of another schema version, or is no database of ours."""

    code = "store.unsupported"


class AlreadyExists(AttestError):
    """A thing of that name is already there; replacing it must be asked for."""

    code = "store.exists"
    kind: Kind = "guest"


class NotFound(AttestError):
    """No such thing in the store."""

    code = "store.not-found"
    kind: Kind = "guest"


class TreeIncomplete(AttestError):
    """A node of the audit tree is missing, which only a change from outside can bring about."""

    code = "audit.tree"
