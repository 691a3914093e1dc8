"""Request bodies of guests: any bytes are a request or our error."""

from __future__ import annotations

from attest.broker.protocol import parse_attest, parse_auth
from attest.evidence.snp_json import decode_snp_json
from policy.errors import MalformedInput


def one(data: bytes) -> None:
    """One body, read as every request there is."""
    try:
        parse_auth(data)
    except MalformedInput:
        pass
    try:
        request = parse_attest(data)
        decode_snp_json(request.evidence)
    except MalformedInput:
        pass
