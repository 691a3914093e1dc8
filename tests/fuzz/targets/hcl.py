"""Fuzz target: an HCL blob yields a report and variable data that lie in its bytes, or is refused with our error."""

from __future__ import annotations

from attest.evidence.hcl import parse_hcl
from policy.errors import MalformedInput


def one(data: bytes) -> None:
    """Accepted parts are the blob's own bytes, and the value REPORT_DATA must have can be computed."""
    try:
        blob = parse_hcl(data)
    except MalformedInput:
        return
    if blob.report.raw not in data or blob.variable_data not in data or len(blob.expected_report_data) != 64:
        raise RuntimeError("a blob was read that is not what was written")
