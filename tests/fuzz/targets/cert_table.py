"""Fuzz target: a certificate table yields parts of its own bytes, or is refused with our error."""

from __future__ import annotations

from attest.evidence.cert_table import build_cert_table, parse_cert_table
from policy.errors import MalformedInput


def one(data: bytes) -> None:
    """Accepted entries lie inside the input and survive being built again."""
    try:
        entries = parse_cert_table(data)
    except MalformedInput:
        return
    if any(entry.data not in data for entry in entries) or parse_cert_table(build_cert_table(entries)) != entries:
        raise RuntimeError("a table was read that is not what was written")
