"""Whether an attestation token is what ``cvm exec`` may trust: signed by the service, in time, affirming, of this VM.

Pure; the service's keys and the time come from outside. Sources: RFC 7515, 7517, 7518; EAR (draft-ietf-rats-ear).
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from policy.errors import CvmError, MalformedInput
from policy.strictjson import strict_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_TOKEN = 60_000
SKEW = 60
"""Seconds by which the clocks of service and operator may differ."""
_ALGORITHMS: Mapping[str, tuple[str, ec.EllipticCurve, hashes.HashAlgorithm, int]] = {
    "ES256": ("P-256", ec.SECP256R1(), hashes.SHA256(), 32),
    "ES384": ("P-384", ec.SECP384R1(), hashes.SHA384(), 48),
}
_DIGESTS = ("measurement", "mrtd")


class TokenUntrusted(CvmError):
    """The guest's token proves nothing to us."""

    code = "exec.token"
    exit_status = 6


class TokenMalformed(MalformedInput):
    """The guest's token, or the service's list of keys, is not of its form."""

    code = "exec.token-malformed"


def trusted_point(
    token: str, jwks: object, revoked: frozenset[str], *, now: float, launch_digest: str | None, emulated: bool
) -> bytes:
    """The guest's public point (uncompressed, P-256), if the token stands. ``launch_digest``: hex, what this VM's
    hardware must have measured. Raises :class:`TokenUntrusted`, :class:`TokenMalformed`.
    """
    claims = verified_claims(token, jwks)
    _in_time(claims, now)
    if claims.get("jti") in revoked:
        raise TokenUntrusted("exec: the guest's token is revoked")
    if claims.get("cvm.emulated") is not emulated:
        raise TokenUntrusted("exec: the token is about an emulated chip and this VM is not, or the other way round")
    status, evidence = _module(claims)
    if status != "affirming":
        raise TokenUntrusted(f"exec: the service says {status!r} about this guest, want 'affirming'")
    got = _launch_digest(evidence)
    if launch_digest is None or got != launch_digest:
        raise TokenUntrusted(
            f"exec: the token is about launch digest {got[:16]}…, this VM has {str(launch_digest)[:16]}…: another guest"
        )
    return _point(evidence)


def verified_claims(token: str, jwks: object) -> dict[str, Any]:
    """The payload, its signature checked under the key its header names."""
    parts = token.split(".")
    if len(token) > MAX_TOKEN or len(parts) != 3:
        raise TokenMalformed("exec: the token is no compact JWS")
    header, payload, signature = (_decode(part) for part in parts)
    head = _object(header, "token header")
    key = _key(jwks, head.get("kid"))
    algorithm = key.get("alg")
    found = _ALGORITHMS.get(algorithm) if isinstance(algorithm, str) else None
    if found is None or head.get("alg") != algorithm or key.get("crv") != found[0]:
        raise TokenUntrusted(f"exec: token algorithm {str(head.get('alg'))[:20]!r}: not that of the service's key")
    _, curve, digest, size = found
    if len(signature) != 2 * size:
        raise TokenUntrusted("exec: the token's signature is not the service's")
    der = encode_dss_signature(int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big"))
    try:
        public = ec.EllipticCurvePublicNumbers(_number(key, "x"), _number(key, "y"), curve).public_key()
        public.verify(der, f"{parts[0]}.{parts[1]}".encode("ascii"), ec.ECDSA(digest))
    except (InvalidSignature, ValueError):
        raise TokenUntrusted("exec: the token's signature is not the service's") from None
    return _object(payload, "token")


def _key(jwks: object, kid: object) -> dict[str, Any]:
    listed = jwks.get("keys") if isinstance(jwks, dict) else None
    for key in listed if isinstance(listed, list) else ():
        if isinstance(key, dict) and isinstance(kid, str) and key.get("kid") == kid and key.get("kty") == "EC":
            return key
    raise TokenUntrusted("exec: the token is signed with a key the service does not have")


def _in_time(claims: dict[str, Any], now: float) -> None:
    start, end = claims.get("nbf"), claims.get("exp")
    if type(start) is not int or type(end) is not int:
        raise TokenMalformed("exec: the token has no times")
    if not start - SKEW <= now < end:
        raise TokenUntrusted("exec: the token is not valid now: expired, or from the future")


def _module(claims: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Status and evidence, in either dialect of the service."""
    try:
        module = claims["submods"]["cpu0"]
        if "ear.status" in module:
            return str(module["ear.status"]), dict(module["ear.veraison.annotated-evidence"])
        return str(module["ear_status"]), dict(module["ear_veraison_annotated_evidence"])
    except (LookupError, TypeError, ValueError):
        raise TokenMalformed("exec: the token has no result about cpu0") from None


def _launch_digest(evidence: dict[str, Any]) -> str:
    for tee in evidence.values():
        for name in _DIGESTS if isinstance(tee, dict) else ():
            if isinstance(tee.get(name), str):
                return str(tee[name])
    return "none"


def _point(evidence: dict[str, Any]) -> bytes:
    try:
        key = evidence["runtime_data_claims"]["tee-pubkey"]
        x, y = _decode(key["x"]), _decode(key["y"])
        if (key["kty"], key["crv"], len(x), len(y)) != ("EC", "P-256", 32, 32):
            raise TokenMalformed("exec: the guest's key in the token is not on P-256")
    except (LookupError, TypeError):
        raise TokenMalformed("exec: the token names no key of the guest") from None
    return b"\x04" + x + y


def _number(key: dict[str, Any], name: str) -> int:
    return int.from_bytes(_decode(key.get(name)), "big")


def _decode(text: object) -> bytes:
    if not isinstance(text, str) or not text.isascii():
        raise TokenMalformed("exec: the token is not base64url")
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise TokenMalformed("exec: the token is not base64url") from None


def _object(data: bytes, what: str) -> dict[str, Any]:
    body = strict_json(data, f"exec: {what}", max_bytes=MAX_TOKEN, error=TokenMalformed)
    if not isinstance(body, dict):
        raise TokenMalformed(f"exec: {what}: not a JSON object")
    return body


def revoked_ids(document: object) -> frozenset[str]:
    """``jti`` of the service's list of revoked tokens. Raises :class:`TokenMalformed`."""
    listed = document.get("revoked") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not all(isinstance(item, dict) and "jti" in item for item in listed):
        raise TokenMalformed(f"exec: the service's revocation list is not understood: {json.dumps(document)[:80]}")
    return frozenset(str(item["jti"]) for item in listed)
