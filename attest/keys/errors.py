"""Errors about key files and sealed values. They never contain key material."""

from __future__ import annotations

from attest.errors import AttestError, Kind


class KeyFileRefused(AttestError):
    """A key file is missing, malformed, or readable by others."""

    code = "keys.file-refused"


class SealBroken(AttestError):
    """A sealed value does not open: changed, moved to another path or version, or under another master key."""

    code = "keys.seal-broken"


class KeyUnavailable(AttestError):
    """A master key that is kept elsewhere cannot be used now: the token is not there, or refuses."""

    code = "keys.unavailable"
    kind: Kind = "unavailable"
