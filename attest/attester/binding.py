"""REPORT_DATA: what ties the report to this challenge and to this guest's key.

``report_data = SHA-384(JCS({"additional-evidence": …, "nonce": …, "tee-pubkey": …}))`` padded with zeros to 64 bytes.
Source: Confidential Containers KBS protocol 0.4.0 (client crate ``kbs_protocol``, ``rcar_client.rs``); JCS is RFC 8785.
"""

from __future__ import annotations

import hashlib
import json

from attest.attester.errors import ServiceMalformed

REPORT_DATA_BYTES = 64
_HASHES = {"sha256": hashlib.sha256, "sha384": hashlib.sha384, "sha512": hashlib.sha512}


def canonical(value: dict[str, object]) -> bytes:
    """RFC 8785 for objects of ASCII strings, the only ones this protocol hashes: sorted members, no white space.

    For such values JCS and ``json.dumps`` with sorted keys agree; anything else is refused instead of hashed wrongly.
    """
    _only_plain_strings(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def report_data(
    nonce: str, tee_pubkey: dict[str, str], additional_evidence: str = "", algorithm: str = "sha384"
) -> bytes:
    """The 64 bytes to ask a report for. ``nonce`` is the challenge's text as received, not decoded."""
    if algorithm not in _HASHES:
        raise ServiceMalformed(f"challenge: hash {algorithm[:20]!r}, want one of {', '.join(_HASHES)}")
    document = canonical({"additional-evidence": additional_evidence, "nonce": nonce, "tee-pubkey": dict(tee_pubkey)})
    return _HASHES[algorithm](document).digest().ljust(REPORT_DATA_BYTES, b"\0")


def _only_plain_strings(value: object) -> None:
    if isinstance(value, dict):
        for name, member in value.items():
            _only_plain_strings(name)
            _only_plain_strings(member)
    elif not isinstance(value, str) or not value.isascii() or not (value == "" or value.isprintable()):
        raise ServiceMalformed(f"binding: {str(value)[:40]!r} is not a printable ASCII string")
