"""How the guest's agent fails. Two outcomes are told apart everywhere: *refused* (the service judged this guest and
said no) and *failed* (anything else).
"""

from __future__ import annotations

from policy.errors import CvmError, MalformedInput


class CommandLineMalformed(MalformedInput):
    """A ``cvm.*`` word of the measured kernel command line is wrong."""

    code = "guest.command-line"


class ServiceMalformed(MalformedInput):
    """The service answered something that is not the protocol."""

    code = "guest.service-malformed"


class EvidenceUnavailable(CvmError):
    """No source of evidence, or the source failed."""

    code = "guest.evidence"


class InitDataRefused(CvmError):
    """Init-data is demanded, and what the host offers is missing, wrong, or not what the launch is bound to."""

    code = "guest.init-data"


class NetworkFailed(CvmError):
    """The network interface could not be set up."""

    code = "guest.network"


class ServiceUnavailable(CvmError):
    """The service cannot be reached, or says that it cannot answer now; a later attempt may succeed."""

    code = "guest.service-unavailable"


class ServiceUntrusted(CvmError):
    """Whoever answers is not the service whose CA was measured. Never retried."""

    code = "guest.service-untrusted"


class SessionLost(CvmError):
    """The service does not know our session (any more): a new handshake is needed."""

    code = "guest.session"


class SecretNotFound(CvmError):
    """The service has no such resource."""

    code = "guest.not-found"


class Refused(CvmError):
    """The service judged the evidence and denied. ``reasons`` are the service's own words, possibly none."""

    code = "guest.refused"

    def __init__(self, message: str, reasons: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.reasons = reasons


class DiskFailed(CvmError):
    """A disk is missing, or could not be opened or mounted."""

    code = "guest.disk"


class RootFailed(CvmError):
    """The root file system is missing, cannot be opened, or is not what the measured root hash says."""

    code = "guest.root"


class SecretFileFailed(CvmError):
    """A secret could not be put in its file, or the guest's interface could not be opened."""

    code = "guest.secret-file"


class PayloadFailed(CvmError):
    """The payload is missing, is not executable, or ended with an error."""

    code = "guest.payload"
