"""Fuzz target: any file is evidence of a known kind, or is refused with our error (blobs and quotes included)."""

from __future__ import annotations

from attest.endorsement.errors import VerificationFailed
from attest.evidence.recognise import TdReportEvidence, parse_evidence
from attest.verifier.vtpm import verify_vtpm
from policy.errors import MalformedInput


def one(data: bytes) -> None:
    """Everything that can be read off accepted evidence can be read off without another error."""
    try:
        evidence = parse_evidence(data)
        vtpm = None if isinstance(evidence, TdReportEvidence) else evidence.vtpm
        if vtpm is not None:
            len(vtpm.hcl.expected_report_data)
            verify_vtpm(vtpm, expected_challenge=b"fuzz")
    except (MalformedInput, VerificationFailed):
        return
