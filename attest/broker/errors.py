"""Errors of the key broker. What a guest may be told is in the message; what only operators may know is in the
audit."""

from __future__ import annotations

from attest.errors import AttestError, Kind
from policy.errors import MalformedInput, UnsupportedInput


class RequestMalformed(AttestError, MalformedInput):
    """A request body that does not parse completely."""

    code = "request.malformed"
    kind: Kind = "guest"


class RequestUnsupported(RequestMalformed, UnsupportedInput):
    """A protocol version, TEE, key type or extra evidence this service does not speak."""

    code = "request.unsupported"


class VersionMismatch(RequestUnsupported):
    """The client speaks another version of the protocol. The first words of the message are known to clients."""

    code = "request.version-mismatch"


class SessionRefused(AttestError):
    """No session, or one that cannot be used: unknown, expired, its nonce used already, or another nonce."""

    code = "session.refused"
    kind: Kind = "guest"


class TokenRefused(AttestError):
    """A token that is not ours, not valid now, or rests on rules that have changed since."""

    code = "token.refused"
    kind: Kind = "guest"


class AccessDenied(AttestError):
    """The evidence was not accepted, or the decision does not allow the request.

    ``decision`` is the number of the audit record that holds the details, ``reasons`` the names of what failed and
    nothing more: a guest that could read expected values could tune its evidence to them.
    """

    code = "access.denied"
    kind: Kind = "guest"

    def __init__(self, message: str, *, decision: int, reasons: tuple[str, ...] = (), code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.decision = decision
        self.reasons = reasons


class ApprovalMissing(AttestError):
    """What an operator asks for needs the approval of more operators, or of others."""

    code = "approval.missing"
    kind: Kind = "guest"


class RotationState(AttestError):
    """A key is being replaced and this does not fit, or is not being replaced."""

    code = "rotation.state"
    kind: Kind = "guest"


class TooMany(AttestError):
    """More visits than allowed; ``retry`` is when the next one is, in seconds."""

    code = "limit.exceeded"
    kind: Kind = "guest"

    def __init__(self, message: str, *, retry: int, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.retry = retry


class Overloaded(AttestError):
    """More requests wait than can be answered in time."""

    code = "service.overloaded"
    kind: Kind = "unavailable"


class ResourceUnknown(AttestError):
    """No resource of that path is in force."""

    code = "resource.unknown"
    kind: Kind = "guest"


class BackupRefused(AttestError):
    """A backup cannot be made, or must not be restored: altered, of another version, older than what was signed."""

    code = "backup.refused"


class ServiceMisconfigured(AttestError):
    """The service cannot work as configured: no policy in force, unreadable collateral folder."""

    code = "service.misconfigured"
