"""Fuzz target: a launch ledger, a control request and marks of a console log parse or raise our error."""

from __future__ import annotations

from launcher.io.control import parse_request
from launcher.io.ledger import parse_ledger
from launcher.io.times import parse_marks
from policy.errors import CvmError


def one(data: bytes) -> None:
    """Feed one input to all three."""
    parse_marks(data, 1e9)
    for parse in (parse_ledger, parse_request):
        try:
            parse(data)
        except CvmError:
            continue
