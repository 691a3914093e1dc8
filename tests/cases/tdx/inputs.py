"""One exported case verified again from its bytes."""

from __future__ import annotations

from attest.endorsement.intel_pool import IntelCollateral
from attest.evidence.eventlog import parse_event_log
from attest.evidence.intel_certificate import IntelCertificate, IntelCrl
from attest.evidence.intel_json import parse_qe_identity, parse_tcb_info
from attest.evidence.recognise import QuoteEvidence, parse_evidence
from attest.verifier.quote import QuoteVerifier
from policy.claims import VerifiedClaims
from policy.document import PolicyDocument
from tests.fakes.intel_pki import QuoteInputs


def verify_inputs(inputs: QuoteInputs, document: PolicyDocument) -> VerifiedClaims:
    """The claims, or the error."""
    evidence = parse_evidence(inputs.evidence)
    if not isinstance(evidence, QuoteEvidence):
        raise TypeError(f"not a quote: {evidence.kind}")
    pool = IntelCollateral.of(
        map(IntelCertificate.parse, inputs.certificates),
        map(IntelCrl.parse, inputs.crls),
        map(parse_tcb_info, inputs.tcb_infos),
        map(parse_qe_identity, inputs.qe_identities),
    )
    return QuoteVerifier(inputs.anchors).verify(
        evidence.quote,
        pool,
        now=inputs.now,
        expected_report_data=inputs.expected_report_data,
        event_log=None if evidence.event_log is None else parse_event_log(evidence.event_log),
        unlogged_registers=frozenset() if document.tdx is None else document.tdx.unlogged_registers,
    )
