"""Fuzz target: report bytes parse completely and keep their bytes, or are refused with our error."""

from __future__ import annotations

from attest.evidence.product import likely_product, tcb_for_display
from attest.evidence.snp_report import SnpReport
from policy.errors import MalformedInput


def one(data: bytes) -> None:
    """An accepted report is exactly its bytes, and everything in it can be shown."""
    try:
        report = SnpReport.parse(data)
    except MalformedInput:
        return
    if report.raw != data or not 1 <= report.version <= 5:
        raise RuntimeError("a report was accepted that is not what was read")
    tcb_for_display(report.reported_tcb, likely_product(report))
