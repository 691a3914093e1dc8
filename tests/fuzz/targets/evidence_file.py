"""Fuzz target: any file is evidence of a known kind, or is refused with our error (blobs and quotes included)."""

from __future__ import annotations

from attest.endorsement.errors import VerificationFailed
from attest.evidence.recognise import parse_evidence
from attest.verifier.vtpm import verify_vtpm
from policy.errors import MalformedInput


def one(data: bytes) -> None:
    """Everything that can be read off accepted evidence can be read off without another error."""
    try:
        evidence = parse_evidence(data)
        if evidence.hcl is not None:
            len(evidence.hcl.expected_report_data)
        if evidence.vtpm is not None:
            verify_vtpm(evidence.vtpm, expected_challenge=b"fuzz")
    except (MalformedInput, VerificationFailed):
        return
