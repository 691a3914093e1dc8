"""Fuzz target: the KBS spelling of a report becomes 1184 bytes that spell the same again, or is refused."""

from __future__ import annotations

from attest.evidence.snp_json import decode_snp_json, encode_snp_json
from policy.errors import MalformedInput
from policy.strictjson import strict_json


def one(data: bytes) -> None:
    """What is accepted must survive another round."""
    try:
        evidence = decode_snp_json(strict_json(data, "fuzz"))
    except MalformedInput:
        return
    spelled = encode_snp_json(evidence.report, evidence.certificates)
    if decode_snp_json({"report": spelled["report"]}).report != evidence.report:
        raise RuntimeError("a report changed between two spellings")
