"""Fuzz target: a quote parses completely and keeps its bytes, or is refused with our error."""

from __future__ import annotations

from attest.evidence.quote import parse_quote
from policy.errors import MalformedInput


def one(data: bytes) -> None:
    """An accepted quote is exactly its bytes and zeros, and its chain can be split or is refused."""
    try:
        quote = parse_quote(data)
        if quote.raw + bytes(quote.padding) != data or not quote.raw.startswith(quote.signed):
            raise RuntimeError("a quote was accepted that is not what was read")
        quote.certification.certificates()
    except MalformedInput:
        return
