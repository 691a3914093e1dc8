"""What REPORT_DATA must be so that a report answers this challenge and speaks for this key.

``REPORT_DATA = H(JCS({"additional-evidence": …, "nonce": …, "tee-pubkey": …}))``, padded with zeros to 64 bytes. JCS is
RFC 8785. Source: Confidential Containers KBS protocol, version 0.4.0, "Attestation"; the evidence of an additional
device is bound without the member ``additional-evidence``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import rfc8785

from attest.evidence.errors import EvidenceMalformed, EvidenceUnsupported

REPORT_DATA_SIZE = 64
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
ALGORITHMS = ("sha256", "sha384", "sha512")
# The members a key is hashed with: anything else a client sends beside them is not part of the key.
_JWK_MEMBERS = {"EC": ("alg", "crv", "kty", "x", "y"), "RSA": ("alg", "e", "kty", "n")}


def report_data_for(
    nonce: str, tee_pubkey: Mapping[str, object], additional_evidence: str | None = "", algorithm: str = "sha384"
) -> bytes:
    """The 64 expected bytes.

    ``additional_evidence`` is the string exactly as it was sent, ``None`` for a device's own binding. Raises
    :class:`EvidenceUnsupported` for another hash or key type and :class:`EvidenceMalformed` for an incomplete key.
    """
    runtime: dict[str, object] = {"nonce": nonce, "tee-pubkey": _key_members(tee_pubkey)}
    if additional_evidence is not None:
        runtime["additional-evidence"] = additional_evidence
    if algorithm not in ALGORITHMS:
        raise EvidenceUnsupported(f"hash algorithm {algorithm[:40]!r}, want {', '.join(ALGORITHMS)}")
    try:
        canonical = _canonical(runtime)
    except rfc8785.CanonicalizationError as exc:
        raise EvidenceMalformed(f"tee-pubkey: {exc}") from None
    return hashlib.new(algorithm, canonical).digest().ljust(REPORT_DATA_SIZE, b"\0")


def _canonical(runtime: dict[str, object]) -> bytes:
    """Of strings in dictionaries the standard library writes what RFC 8785 wants where all are ASCII, and sooner."""
    text = _encode(runtime)
    return text.encode("ascii") if text.isascii() else rfc8785.dumps(runtime)  # type: ignore[arg-type]  # as JSON


def _key_members(tee_pubkey: Mapping[str, object]) -> dict[str, str]:
    kind = tee_pubkey.get("kty")
    members = _JWK_MEMBERS.get(kind) if isinstance(kind, str) else None
    if members is None:
        raise EvidenceUnsupported(f"tee-pubkey: kty is {str(kind)[:40]!r}, want EC or RSA")
    key: dict[str, str] = {}
    for name in members:
        value = tee_pubkey.get(name)
        if not isinstance(value, str):
            raise EvidenceMalformed(f"tee-pubkey: member {name} is missing or not a string")
        key[name] = value
    return key
