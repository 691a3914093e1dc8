"""Claims × policy × reference values × time -> Decision. Pure, total, and never the first failure only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from policy.checks import FAIL, PASS, Appraisal, Check, run_checks
from policy.claims import VerifiedClaims
from policy.document import PolicyDocument
from policy.reference import ReferenceValue

AFFIRMING, CONTRAINDICATED = "affirming", "contraindicated"


@dataclass(frozen=True, slots=True)
class Decision:
    """Every check that was made, and the verdict that follows from them.

    ``verdict`` is ``affirming`` or ``contraindicated`` (the words of an EAR). ``trust_vector`` holds AR4SI claims
    (draft-ietf-rats-ar4si): 2 affirming, 96 and above contraindicated, 0 where nothing is claimed.
    """

    checks: tuple[Check, ...]
    verdict: str
    policy_name: str
    emulated: bool
    trust_vector: dict[str, int]

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed, in order."""
        return tuple(check for check in self.checks if check.outcome == FAIL)

    @property
    def passed(self) -> tuple[Check, ...]:
        """The checks that passed, in order."""
        return tuple(check for check in self.checks if check.outcome == PASS)

    @property
    def affirming(self) -> bool:
        """Whether the policy accepts."""
        return self.verdict == AFFIRMING


def decide(
    claims: VerifiedClaims, document: PolicyDocument, references: Sequence[ReferenceValue], *, now: datetime
) -> Decision:
    """Run every check. No check passed, or any check failed: contraindicated.

    Raises ``TypeError`` for anything but :class:`VerifiedClaims` and for a ``now`` without a zone.
    """
    if not isinstance(claims, VerifiedClaims):
        raise TypeError(f"decide() wants VerifiedClaims, got {type(claims).__name__}: verify the evidence first")
    if now.tzinfo is None:
        raise TypeError("decide() wants an aware time")
    of = Appraisal(claims.snp, claims.platform, document, references, now)
    checks = tuple(run_checks(of))
    failed = {check.id for check in checks if check.outcome == FAIL}
    accepted = not failed and any(check.outcome == PASS for check in checks)
    return Decision(
        checks=checks,
        verdict=AFFIRMING if accepted else CONTRAINDICATED,
        policy_name=document.name,
        emulated=claims.emulated,
        trust_vector=_trust_vector(failed, of),
    )


def _trust_vector(failed: set[str], of: Appraisal) -> dict[str, int]:
    """AR4SI: the worst applicable value per claim. Emulated hardware is never affirmed as genuine."""
    hardware = {"trust.root", "snp.product", "snp.cpuid", "snp.signing-key", "snp.revocation"}
    firmware = ("snp.tcb.", "snp.firmware.", "snp.mitigations.")
    tcb = {name for name in failed if name.startswith(firmware)}
    tcb |= {"snp.platform.alias-check", "snp.platform.ecc"}
    identity = {"snp.chip-id", "snp.csp-id", "snp.report-id", "snp.host-data"}
    identity |= {"snp.id-key-digest", "snp.author-key-digest"}
    executables = {"measurement", "snp.guest-svn", "snp.family-id", "snp.image-id"}
    rest = failed - hardware - tcb - identity - executables
    genuine = 97 if failed & hardware else 96 if failed & tcb else 0 if of.claims.emulated else 2
    measured = of.document.measurement != "any"
    opaque = 0 if of.claims.policy.debug or of.claims.emulated else 2
    return {
        "instance-identity": 96 if failed & identity else 2 if of.document.snp.chip_ids else 0,
        "configuration": 96 if rest else 2,
        "executables": 33 if "measurement" in failed else 96 if failed & executables else 3 if measured else 0,
        "file-system": 0,
        "hardware": genuine,
        "runtime-opaque": 96 if "snp.policy.debug" in failed else opaque,
        "storage-opaque": 0,
        "sourced-data": 0,
    }
