"""Evidence × endorsements × rules × time -> what was found. The same function decides now and repeats a decision later.

Trust follows from the policy alone: AMD's roots where it names ``amd``, a test root where it names that root's key. The
certificate of a test root may come from anywhere, the evidence included, because its key is what the policy names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from attest.endorsement.amd import ChainCache
from attest.endorsement.anchors import TrustAnchors
from attest.endorsement.errors import RevocationUnknown, VerificationFailed
from attest.endorsement.pool import EndorsementSet
from attest.errors import AttestError
from attest.evidence.amd_certificate import AmdCertificate, AmdCrl, UnrelatedCertificate
from attest.evidence.cert_table import CertEntry
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.product import product_of_report
from attest.evidence.snp_report import SnpReport
from attest.verifier.snp import SnpVerifier
from policy.claims import AMD_ROOT, VerifiedClaims
from policy.decide import CONTRAINDICATED, Decision, decide
from policy.document import PolicyDocument
from policy.reference import ReferenceValue

REVOCATION = "snp.revocation"
NOT_GENUINE, MALFORMED, UNAVAILABLE = "not-genuine", "malformed", "unavailable"


@dataclass(frozen=True, slots=True)
class Bound:
    """What the report must be bound to: 64 bytes of REPORT_DATA, and HOST_DATA (32) where init-data was sent."""

    report_data: bytes
    host_data: bytes | None = None


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
    report: SnpReport,
    endorsements: EndorsementSet,
    bound: Bound,
    rules: tuple[PolicyDocument, Sequence[ReferenceValue]],
    *,
    now: datetime,
    chains: ChainCache | None = None,
) -> Found:
    """Verify and judge. Raises nothing about the evidence: what went wrong is part of the result."""
    document, references = rules
    verifier = SnpVerifier(anchors_of(document, endorsements), chains or ChainCache())
    try:
        claims = verifier.verify(report, endorsements, now=now, expected_report_data=bound.report_data)
        _check_host_data(report, bound.host_data)
    except AttestError as exc:
        return Found(failure=exc)
    decision = decide(claims, document, references, now=now)
    return Found(claims, decision, revocation_unknown(claims, decision))


def revocation_unknown(claims: VerifiedClaims, decision: Decision) -> RevocationUnknown | None:
    """The failure of our collateral, where a current revocation list is all that an accepted guest lacks.

    A *revoked* chain never gets here: that is a failed verification. A guest that fails another check too is denied for
    that reason, whatever the list would have said.
    """
    if [check.id for check in decision.failed] != [REVOCATION]:
        return None
    return RevocationUnknown(
        f"revocation: {claims.snp.revocation}; policy {decision.policy_name} wants a current list",
        hint="attest collateral fetch, or online = true in [collateral]",
    )


def list_too_old(found: Found) -> Found:
    """``found`` where the operator bounds the age of lists and ours is older: acceptance becomes unavailability."""
    if found.decision is None or not found.decision.affirming:
        return found
    failure = RevocationUnknown("revocation: the list at hand was fetched longer ago than max_crl_age_hours allows")
    return Found(found.claims, found.decision, failure)


def anchors_of(document: PolicyDocument, endorsements: EndorsementSet) -> TrustAnchors:
    """The trust anchors a policy names, test roots taken from the certificates at hand."""
    anchors = TrustAnchors.amd() if AMD_ROOT in document.roots else TrustAnchors({})
    for root in endorsements.roots:
        if f"test:{root.spki_sha256.hex()}" in document.roots:
            anchors = anchors.with_test_root(root.der)
    return anchors


def sent_endorsements(entries: Sequence[CertEntry]) -> EndorsementSet:
    """Certificates and CRLs that came with the evidence. Raises EvidenceMalformed; unrelated ones are passed over."""
    certificates: list[AmdCertificate] = []
    crls: list[AmdCrl] = []
    for entry in entries:
        try:
            if entry.name == "CRL":
                crls.append(AmdCrl.parse(entry.data))
            else:
                certificates.append(AmdCertificate.parse(entry.data))
        except UnrelatedCertificate:
            continue
    return EndorsementSet.of(certificates, crls, with_evidence=True)


def relevant(report: SnpReport, pool: EndorsementSet) -> EndorsementSet:
    """The part of ``pool`` that can matter for ``report``: what an audit record has to keep."""
    try:
        leaves = pool.candidates(report, product_of_report(report))
    except AttestError:
        leaves = ()
    products = {leaf.product for leaf in leaves}
    return EndorsementSet(
        leaves=leaves,
        intermediates=tuple(item for item in pool.intermediates if item.product in products),
        roots=tuple(item for item in pool.roots if item.product in products),
        crls=tuple(item for item in pool.crls if item.product in products),
        offered=pool.offered & {leaf.sha256 for leaf in leaves},
    )


def matching(claims: VerifiedClaims, references: Sequence[ReferenceValue], now: datetime) -> tuple[str, ...]:
    """Names of the unexpired reference values of this platform that the launch digest equals."""
    return tuple(
        value.name
        for value in references
        if value.platform is claims.platform
        and value.launch_digest == claims.snp.measurement
        and (value.expires is None or now < value.expires)
    )


def _check_host_data(report: SnpReport, expected: bytes | None) -> None:
    if expected is not None and report.host_data != expected:
        raise VerificationFailed(
            "binding", f"report: host_data is {report.host_data.hex()}, the init-data sent gives {expected.hex()}"
        )
