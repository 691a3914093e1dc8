"""Fuzz target: TCB info and QE identity keep exactly the text that is signed, or are refused with our error."""

from __future__ import annotations

from attest.evidence.intel_json import parse_qe_identity, parse_tcb_info
from policy.errors import MalformedInput


def one(data: bytes) -> None:
    """The signed text stands in what was read, and reads as an object of its own."""
    for read in (parse_tcb_info, parse_qe_identity):
        try:
            found = read(data)
        except MalformedInput:
            continue
        if found.signed not in data or not (found.signed.startswith(b"{") and found.signed.endswith(b"}")):
            raise RuntimeError("accepted a text that does not stand in what was read")
