"""Why a bearer token does not count, and that its provider cannot be asked."""

from __future__ import annotations

from attest.errors import AttestError, Kind
from policy.errors import MalformedInput


class BearerRefused(AttestError):
    """A token that is not one of the provider's for us, or not valid now. The message says what is wrong with it."""

    code = "bearer.refused"
    kind: Kind = "guest"


class BearerMalformed(BearerRefused, MalformedInput):
    """A token that is none: not three parts, not JSON, too long."""

    code = "bearer.malformed"


class ProviderUnavailable(AttestError):
    """The provider's keys are not at hand: it could not be asked, or what it answered is not what was asked for."""

    code = "oidc.unavailable"
    kind: Kind = "unavailable"
