"""One piece of evidence against a :class:`Bench`: what ``attest evidence verify`` reports about a file.

A bench is made once and judges any number of files: certificates that were parsed and chains that were verified are
remembered by digest, so that every further report of a known chip costs one P-384 verification.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import TypeVar

from attest.broker.appraise import revocation_unknown
from attest.broker.rego_judge import with_rego
from attest.cli.evidence_file import DENIED, GENUINE, outcome_of
from attest.cli.evidence_quote import QuoteJudge, genuine_quote_message, tcb_of
from attest.endorsement.errors import RevocationUnknown
from attest.endorsement.pool import EndorsementSet
from attest.errors import AttestError
from attest.evidence.amd_certificate import AmdCertificate, AmdCrl, UnrelatedCertificate
from attest.evidence.errors import EvidenceMalformed, EvidenceUnsupported
from attest.evidence.product import product_of_report
from attest.evidence.recognise import QuoteEvidence, SnpEvidence, parse_evidence, recognise
from attest.evidence.snp_report import SnpReport
from attest.verifier.snp import SnpVerifier
from attest.verifier.vtpm import verify_hcl_nonce, verify_vtpm
from policy.checks import LAUNCH_CHECKS, Check
from policy.claims import SnpClaims, VerifiedClaims, claims_json
from policy.decide import Decision, decide
from policy.document import PolicyDocument
from policy.errors import CvmError
from policy.explain import failure_lines
from policy.reference import ReferenceValue

SCHEMA = "attest.evidence.verify/1"
_T = TypeVar("_T")

Fetch = Callable[[SnpEvidence, EndorsementSet], EndorsementSet]
"""What can be had from elsewhere for a report, given what is at hand."""


@dataclass(slots=True)
class Result:
    """What is reported, filled in as far as verification came."""

    file: str
    kind: str = "unknown"
    outcome: str = GENUINE
    code: str = GENUINE
    message: str = ""
    verified: VerifiedClaims | None = None
    revocation: str = "not-checked"
    decision: Decision | None = None
    launch_compared: bool = True
    hint: str | None = None

    @property
    def checks(self) -> tuple[Check, ...]:
        """Those of the decision; of the launch digest's only where there was something to compare it with."""
        found = () if self.decision is None else self.decision.checks
        return found if self.launch_compared else tuple(item for item in found if item.id not in LAUNCH_CHECKS)

    def as_json(self) -> dict[str, object]:
        """The contract's members; ``tcb_status`` and ``advisory_ids`` are Intel's and empty for AMD."""
        tcb = tcb_of(self.verified)
        return {
            "schema": SCHEMA,
            "file": self.file,
            "kind": self.kind,
            "outcome": self.outcome,
            "code": self.code,
            "message": self.message,
            "emulated": self.verified is not None and self.verified.emulated,
            "claims": {} if self.verified is None else claims_json(self.verified.tee),
            "tcb_status": None if tcb is None else tcb.status.value,
            "advisory_ids": [] if tcb is None else list(tcb.advisory_ids),
            "revocation": self.revocation,
            "checks": [
                {"id": item.id, "expected": item.expected, "actual": item.actual, "outcome": item.outcome}
                for item in self.checks
            ],
        }


@dataclass(frozen=True, slots=True)
class Rules:
    """The policy to appraise with; ``binding`` says whether it decides or is only shown."""

    document: PolicyDocument
    references: tuple[ReferenceValue, ...]
    binding: bool
    require_crl: bool = False


@dataclass(frozen=True, slots=True)
class Expected:
    """What the report must be bound to: a nonce of 1 to 64 bytes, or all 64 bytes of REPORT_DATA, or neither."""

    nonce: bytes | None = None
    report_data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything but the evidence. ``fetch`` is ``None`` offline."""

    pool: EndorsementSet
    verifier: SnpVerifier
    rules: Rules
    expected: Expected
    now: datetime
    fetch: Fetch | None = None
    quotes: QuoteJudge = field(default_factory=QuoteJudge)
    _pools: dict[tuple[bytes, ...], EndorsementSet] = field(default_factory=dict, repr=False)

    def judge(self, name: str, data: bytes) -> Result:
        """The result for ``data``. Raises :class:`CvmError` only for what is no fault of the evidence."""
        result = Result(name)
        try:
            self._judge_into(result, data)
        except CvmError as exc:
            outcome = outcome_of(exc)
            if outcome is None:  # the call is wrong, not the evidence
                raise
            result.outcome, result.code, result.message, result.hint = outcome, exc.code, exc.message, exc.hint
            if exc.code == "verification.revocation":
                result.revocation = "revoked"
        return result

    def _judge_into(self, result: Result, data: bytes) -> None:
        evidence = _parse(result, data)
        claims = self._claims(evidence)
        result.verified, result.revocation = claims, claims.revocation
        document = self.rules.document
        decision = with_rego(claims, decide(claims, document, self.rules.references, now=self.now), document)
        result.decision = decision
        result.launch_compared = self.rules.binding or bool(self.rules.references)
        result.message = _genuine_message(claims)
        if self.rules.require_crl and claims.revocation != "good":
            raise RevocationUnknown(f"revocation: {claims.revocation}, --require-crl wants a current list")
        if not self.rules.binding:
            return
        unknown = revocation_unknown(claims, decision)
        if unknown is not None:
            raise unknown
        if not decision.affirming:
            result.outcome, result.code = DENIED, "policy.denied"
            result.message = f"policy {self.rules.document.name}: " + "; ".join(failure_lines(decision))

    def _claims(self, evidence: SnpEvidence | QuoteEvidence) -> VerifiedClaims:
        if isinstance(evidence, QuoteEvidence):
            nonce, report_data = self.expected.nonce, self.expected.report_data
            return self.quotes.verify(evidence, self.rules.document, now=self.now, nonce=nonce, report_data=report_data)
        pool = self._pool_for(evidence)
        if self.fetch is not None:
            pool += self.fetch(evidence, pool)
        return self._verify(evidence, pool)

    def _verify(self, evidence: SnpEvidence, pool: EndorsementSet) -> VerifiedClaims:
        """The report, and what hangs on it: an HCL blob's variable data, a TPM quote."""
        challenge, report_data = self.expected.nonce, self.expected.report_data
        if evidence.hcl is None:
            return self._verify_bound(evidence, pool, report_data if challenge is None else challenge.ljust(64, b"\0"))
        # REPORT_DATA is the paravisor's here; a caller's own expectation must agree with the hash, not replace it.
        claims = self._verify_bound(evidence, pool, evidence.hcl.expected_report_data)
        if report_data is not None:
            claims = self._verify_bound(evidence, pool, report_data)
        if evidence.vtpm is not None:
            verify_vtpm(evidence.vtpm, expected_challenge=challenge)
        elif challenge is not None:
            verify_hcl_nonce(evidence.hcl, challenge)
        return claims

    def _verify_bound(self, evidence: SnpEvidence, pool: EndorsementSet, expected: bytes | None) -> VerifiedClaims:
        return self.verifier.verify(evidence.report, pool, now=self.now, expected_report_data=expected)

    def _pool_for(self, evidence: SnpEvidence) -> EndorsementSet:
        """What came along and what was at hand, joined once for all evidence that brings the same certificates."""
        sent = (*evidence.certificates, b"", *evidence.crls)
        if len(sent) == 1:
            return self._library_for(evidence.report)
        pool = self._pools.get(sent)
        return self._keep(sent, sent_endorsements(evidence) + self.pool) if pool is None else pool

    def _library_for(self, report: SnpReport) -> EndorsementSet:
        """The library with the leaves that may have signed ``report`` only, so that no report is compared with all."""
        if len(self.pool.leaves) <= _FEW:
            return self.pool
        # All that EndorsementSet.candidates looks at.
        machine = report.raw[0x180:0x18B]
        key = (report.signing_key.name.encode(), report.chip_id, machine, bytes([report.cpuid_fam_id is None]))
        pool = self._pools.get(key)
        if pool is None:
            try:
                leaves = self.pool.candidates(report, product_of_report(report))
            except AttestError:
                return self.pool  # verifying says what is missing
            pool = self._keep(key, replace(self.pool, leaves=leaves))
        return pool

    def _keep(self, key: tuple[bytes, ...], pool: EndorsementSet) -> EndorsementSet:
        if len(self._pools) >= _POOLS:
            self._pools.clear()
        self._pools[key] = pool
        return pool


def _parse(result: Result, data: bytes) -> SnpEvidence | QuoteEvidence:
    """Parsed evidence; ``result`` learns the kind also of evidence that does not parse."""
    try:
        evidence = parse_evidence(data)
    except EvidenceMalformed:
        result.kind = recognise(data)
        raise
    result.kind = evidence.kind
    if isinstance(evidence, SnpEvidence | QuoteEvidence):
        return evidence
    raise EvidenceUnsupported(
        f"evidence: {evidence.kind} proves nothing to a remote party: its MAC is the machine's own"
    )


_POOLS = 4096
_FEW = 8
_certificate = lru_cache(maxsize=4096)(AmdCertificate.parse)
_crl = lru_cache(maxsize=64)(AmdCrl.parse)


def sent_endorsements(evidence: SnpEvidence) -> EndorsementSet:
    """What came with the evidence; another vendor's certificates are passed over, damaged ones are an error."""
    return EndorsementSet.of(
        _related(_certificate, evidence.certificates), _related(_crl, evidence.crls), with_evidence=True
    )


def _related(parse: Callable[[bytes], _T], items: tuple[bytes, ...]) -> list[_T]:
    found: list[_T] = []
    for item in items:
        try:
            found.append(parse(item))
        except UnrelatedCertificate:
            continue
    return found


def _genuine_message(claims: VerifiedClaims) -> str:
    if not isinstance(claims.tee, SnpClaims):
        return genuine_quote_message(claims)
    snp = claims.tee
    root = "AMD's root" if not claims.emulated else f"{snp.root}, which is not AMD's: EMULATED hardware"
    return f"genuine SNP report: {snp.product.value}, signed by a {snp.signing_key.name} under {root}"
