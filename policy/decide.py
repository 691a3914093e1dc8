"""Claims × policy × reference values × time -> Decision. Pure, total, and never the first failure only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from policy.checks import FAIL, PASS, Check, run_checks
from policy.claims import VerifiedClaims
from policy.document import PolicyDocument
from policy.reference import ReferenceValue
from policy.reference_set import ReferenceSet
from policy.results import Results
from policy.trust_vector import trust_vector

AFFIRMING, CONTRAINDICATED = "affirming", "contraindicated"


class Decision(NamedTuple):
    """The results of every check, and the verdict that follows from them.

    ``verdict`` is ``affirming`` or ``contraindicated`` (the words of an EAR). ``trust_vector`` holds AR4SI claims
    (draft-ietf-rats-ar4si): 2 affirming, 96 and above contraindicated, 0 where nothing is claimed. ``warnings`` name
    what is accepted now and will not be one day.
    """

    results: Results
    verdict: str
    policy_name: str
    emulated: bool
    trust_vector: Mapping[str, int]
    warnings: tuple[str, ...] = ()

    @property
    def checks(self) -> tuple[Check, ...]:
        """Every check that was made, in order."""
        return self.results.checks

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed, in order."""
        return tuple(check for check in self.checks if check.outcome == FAIL) if self.results.failed else ()

    @property
    def passed(self) -> tuple[Check, ...]:
        """The checks that passed, in order."""
        return tuple(check for check in self.checks if check.outcome == PASS)

    @property
    def affirming(self) -> bool:
        """Whether the policy accepts."""
        return self.verdict == AFFIRMING


def decide(
    claims: VerifiedClaims,
    document: PolicyDocument,
    references: Sequence[ReferenceValue],
    *,
    now: datetime,
    vm: str | None = None,
) -> Decision:
    """Run every check. No check passed, or any check failed: contraindicated. ``vm`` is the name in verified init-data.

    Raises ``TypeError`` for anything but :class:`VerifiedClaims` and for a ``now`` without a zone.
    """
    if not isinstance(claims, VerifiedClaims):
        raise TypeError(f"decide() wants VerifiedClaims, got {type(claims).__name__}: verify the evidence first")
    if now.tzinfo is None:
        raise TypeError("decide() wants an aware time")
    results, warnings = run_checks(claims, document, ReferenceSet.of(references), now, vm)
    accepted = results.passed and not results.failed
    vector = trust_vector(results.failed, claims.tee, document)
    verdict = AFFIRMING if accepted else CONTRAINDICATED
    return Decision(results, verdict, document.name, claims.emulated, vector, warnings)
