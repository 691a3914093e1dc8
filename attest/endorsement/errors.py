"""Why evidence is not believed, or could not be judged."""

from __future__ import annotations

from attest.errors import AttestError, Kind

# The order in which evidence is verified; an error names its step. `attest.verifier.snp` documents those of reports,
# `attest.verifier.quote` those of quotes.
STEPS = (
    "format", "vmpl", "signing-key", "product", "qe-vendor", "certification", "root", "intermediate", "leaf",
    "validity", "revocation", "qe-report", "qe-binding", "collateral", "qe-identity", "platform", "module", "tcb",
    "chip-id", "signature", "binding", "event-log",
)  # fmt: skip


class VerificationFailed(AttestError):
    """The evidence is not genuine, not fresh, or not covered by a trusted endorsement. ``step`` is one of
    :data:`STEPS`.
    """

    kind: Kind = "guest"

    def __init__(self, step: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, code=f"verification.{step}", hint=hint)
        self.step = step

    @property
    def number(self) -> int:
        """The step's place in :data:`STEPS`, from 1: of several failed attempts the furthest is the one to report."""
        return STEPS.index(self.step) + 1


class EndorsementMissing(AttestError):
    """A certificate that is needed was not supplied: nothing is wrong with the evidence, and nothing is proven
    either.
    """

    code = "endorsement.missing"
    kind: Kind = "unavailable"


class CollateralExpired(EndorsementMissing):
    """What was supplied is past its date: nothing is wrong with the evidence, and nothing current is at hand."""

    code = "endorsement.expired"


class RevocationUnknown(AttestError):
    """A current revocation list was demanded, and there is none."""

    code = "endorsement.crl"
    kind: Kind = "unavailable"
