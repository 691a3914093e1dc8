"""What REPORT_DATA must be so that a report answers this challenge and speaks for this key.

``REPORT_DATA = H(JCS({"additional-evidence": …, "nonce": …, "tee-pubkey": …}))``, padded with zeros to 64 bytes. JCS is
RFC 8785. Source: Confidential Containers KBS protocol, version 0.4.0, "Attestation"; the evidence of an additional
device is bound without the member ``additional-evidence``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from json.encoder import encode_basestring

import rfc8785

from attest.evidence.errors import EvidenceMalformed, EvidenceUnsupported

REPORT_DATA_SIZE = 64
ALGORITHMS = {"sha256": hashlib.sha256, "sha384": hashlib.sha384, "sha512": hashlib.sha512}
# The members a key is hashed with: anything else a client sends beside them is not part of the key.
_JWK_MEMBERS = {"EC": ("alg", "crv", "kty", "x", "y"), "RSA": ("alg", "e", "kty", "n")}


def report_data_for(
    nonce: str, tee_pubkey: Mapping[str, object], additional_evidence: str | None = "", algorithm: str = "sha384"
) -> bytes:
    """The 64 expected bytes.

    ``additional_evidence`` is the string exactly as it was sent, ``None`` for a device's own binding. Raises
    :class:`EvidenceUnsupported` for another hash or key type and :class:`EvidenceMalformed` for an incomplete key.
    """
    key = _key_members(tee_pubkey)
    runtime: dict[str, str | dict[str, str]] = {"nonce": nonce, "tee-pubkey": key}
    if additional_evidence is not None:
        runtime = {"additional-evidence": additional_evidence, **runtime}
    if algorithm not in ALGORITHMS:
        raise EvidenceUnsupported(f"hash algorithm {algorithm[:40]!r}, want {', '.join(ALGORITHMS)}")
    try:
        canonical = _canonical(runtime)
    except rfc8785.CanonicalizationError as exc:
        raise EvidenceMalformed(f"tee-pubkey: {exc}") from None
    return ALGORITHMS[algorithm](canonical).digest().ljust(REPORT_DATA_SIZE, b"\0")


def _canonical(runtime: dict[str, str | dict[str, str]]) -> bytes:
    """Of strings in dictionaries whose members stand in the order of their names the standard library writes what
    RFC 8785 wants where all are ASCII, and sooner.
    """
    text = _written(runtime)
    return text.encode("ascii") if text.isascii() else rfc8785.dumps(runtime)


def _written(value: str | dict[str, str] | dict[str, str | dict[str, str]]) -> str:
    if isinstance(value, str):
        return encode_basestring(value)
    return "{" + ",".join([f'"{name}":{_written(member)}' for name, member in value.items()]) + "}"


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
