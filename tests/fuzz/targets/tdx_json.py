"""Fuzz target: KBS ``tdx`` evidence is a quote and a log, or is refused with our error."""

from __future__ import annotations

from attest.evidence.tdx_json import decode_tdx_json, encode_tdx_json
from policy.errors import MalformedInput
from policy.strictjson import strict_json


def one(data: bytes) -> None:
    """What was read is spelled the same way again."""
    try:
        value = strict_json(data, "fuzz")
        found = decode_tdx_json(value)
    except MalformedInput:
        return
    quote = found.quote.raw + bytes(found.quote.padding)
    again = encode_tdx_json(quote, found.event_log)
    if again["quote"] != value["quote"] or (found.event_log and again["cc_eventlog"] != value["cc_eventlog"]):
        raise RuntimeError("tdx evidence was accepted that is not what was read")
