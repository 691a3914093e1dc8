"""Fuzz target: a TDREPORT parses completely and keeps its bytes, or is refused with our error."""

from __future__ import annotations

from attest.cli.quote_words import body_details, tdreport_lines
from attest.evidence.tdreport_struct import parse_tdreport
from policy.errors import MalformedInput


def one(data: bytes) -> None:
    """Everything that can be read off an accepted one can be shown."""
    try:
        report = parse_tdreport(data)
    except MalformedInput:
        return
    if report.raw != data:
        raise RuntimeError("a TDREPORT was accepted that is not what was read")
    body_details(report)
    list(tdreport_lines(report))
