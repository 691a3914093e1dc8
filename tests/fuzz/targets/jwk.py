"""The guest's public key: any JSON is a key we can wrap for, or our error."""

from __future__ import annotations

from attest.broker.jwe import encrypt
from attest.broker.jwk import parse_tee_pubkey
from policy.errors import MalformedInput
from policy.secret import SecretBytes
from policy.strictjson import strict_json


def one(data: bytes) -> None:
    """One key; what parses must be usable."""
    try:
        key = parse_tee_pubkey(strict_json(data, "jwk"))
    except MalformedInput:
        return
    encrypt(key, SecretBytes(b"value"))
