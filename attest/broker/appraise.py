"""Evidence × endorsements × rules × time -> what was found. The same function decides now and repeats a decision later.

Trust follows from the policy alone: AMD's roots where it names ``amd``, a test root where it names that root's key. The
certificate of a test root may come from anywhere, the evidence included, because its key is what the policy names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from attest.broker.presented import Memory, Presented
from attest.broker.rego_engine import RegoUnavailable
from attest.broker.rego_judge import with_rego
from attest.endorsement.anchors import TrustAnchors
from attest.endorsement.errors import RevocationUnknown, VerificationFailed
from attest.endorsement.pool import EndorsementSet
from attest.errors import AttestError
from attest.evidence.errors import EvidenceMalformed
from policy.claims import AMD_ROOT, SnpClaims, TdxClaims, TeeClaims, VerifiedClaims, chip_name
from policy.decide import CONTRAINDICATED, Decision, decide
from policy.document import PolicyDocument
from policy.initdata import held_by
from policy.reference import ReferenceValue
from policy.reference_set import ReferenceSet, counts
from policy.stage import Guest

REVOCATIONS = frozenset({"snp.revocation", "tdx.revocation", "sgx.revocation"})
NOT_GENUINE, MALFORMED, UNAVAILABLE = "not-genuine", "malformed", "unavailable"


@dataclass(frozen=True, slots=True)
class Bound:
    """What evidence must be bound to: 64 bytes of REPORT_DATA, and the digest of init-data where some was sent; ``vm``
    is the name in that.
    """

    report_data: bytes
    init_data: bytes | None = None
    vm: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome: claims and a decision, or the failure that prevented them.

    Both stand where only a current revocation list is missing: the guest would be accepted, and our collateral fails.
    """

    claims: VerifiedClaims | None = None
    decision: Decision | None = None
    failure: AttestError | None = None

    @property
    def outcome(self) -> str:
        """The decision's verdict, or the kind of failure."""
        if isinstance(self.failure, EvidenceMalformed):
            return MALFORMED
        if self.failure is not None:
            return UNAVAILABLE if self.failure.kind == "unavailable" else NOT_GENUINE
        return CONTRAINDICATED if self.decision is None else self.decision.verdict


def appraise(
    presented: Presented,
    bound: Bound,
    rules: tuple[PolicyDocument, Sequence[ReferenceValue]],
    *,
    now: datetime,
    memory: Memory | None = None,
) -> Found:
    """Verify and judge. Raises nothing about the evidence: what went wrong is part of the result."""
    document, references = rules
    try:
        claims = presented.verify(bound.report_data, document, now, memory or Memory())
        _check_init_data(claims, bound.init_data)
    except AttestError as exc:
        return Found(failure=exc)
    try:
        decision = with_rego(claims, decide(claims, document, references, now=now, vm=bound.vm), document)
    except RegoUnavailable as exc:
        return Found(claims, failure=exc)
    found = Found(claims, decision, revocation_unknown(claims, decision))
    return _list_too_old(found) if presented.list_too_old else found


def revocation_unknown(claims: VerifiedClaims, decision: Decision) -> RevocationUnknown | None:
    """The failure of our collateral, where a current revocation list is all that an accepted guest lacks.

    A *revoked* chain never gets here: that is a failed verification. A guest that fails another check too is denied for
    that reason, whatever the list would have said.
    """
    if len(decision.failed) != 1 or decision.failed[0].id not in REVOCATIONS:
        return None
    return RevocationUnknown(
        f"revocation: {claims.revocation}; policy {decision.policy_name} wants a current list",
        hint="attest collateral fetch, or online = true in [collateral]",
    )


def _list_too_old(found: Found) -> Found:
    """``found`` where the operator bounds the age of lists and ours is older: acceptance becomes unavailability."""
    if found.decision is None or not found.decision.affirming:
        return found
    failure = RevocationUnknown("revocation: the list at hand was fetched longer ago than max_crl_age_hours allows")
    return Found(found.claims, found.decision, failure)


def anchors_of(document: PolicyDocument, endorsements: EndorsementSet) -> TrustAnchors:
    """The trust anchors a policy names, test roots taken from the certificates at hand."""
    named = [root.der for root in endorsements.roots if f"test:{root.spki_sha256.hex()}" in document.roots]
    return _anchors(AMD_ROOT in document.roots, tuple(named))


@lru_cache(64)
def _anchors(amd: bool, test_roots: tuple[bytes, ...]) -> TrustAnchors:
    anchors = TrustAnchors.amd() if amd else TrustAnchors({})
    for der in test_roots:
        anchors = anchors.with_test_root(der)
    return anchors


def matching(
    claims: VerifiedClaims, references: Sequence[ReferenceValue], now: datetime, vm: str | None = None
) -> tuple[str, ...]:
    """Names of the reference values of this platform that the guest equals, RTMRs included, and that count for it."""
    guest = Guest(chip_name(claims.tee), vm)
    same = ReferenceSet.of(references).equal(claims.platform, claims.launch_digest)
    return tuple(
        value.name for value in same if _registers_equal(claims.tee, value.rtmrs) and counts(value, guest, now)
    )


def _registers_equal(claims: TeeClaims, expected: Sequence[bytes | None]) -> bool:
    """A register that a reference value leaves open is no obstacle; for a TEE without registers none is expected."""
    got = claims.rtmrs if isinstance(claims, TdxClaims) else ()
    return all(wanted is None or got[index : index + 1] == (wanted,) for index, wanted in enumerate(expected))


def _check_init_data(claims: VerifiedClaims, digest: bytes | None) -> None:
    if digest is None:
        return
    got = claims.host_binding
    want = held_by(len(got), digest)
    if got != want:
        name = "host_data" if isinstance(claims.tee, SnpClaims) else "mrconfigid"
        raise VerificationFailed("binding", f"{name} is {got.hex()}, the init-data sent gives {want.hex()}")
