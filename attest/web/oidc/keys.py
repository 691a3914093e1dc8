"""A provider's public keys (JWK Set, RFC 7517), each for the one algorithm it fits.

Only what verifies signatures is taken: keys for encryption, unknown kinds and curves are passed over, as RFC 7517
section 5 wants; a set that holds private or symmetric keys, or two keys of one name, is refused whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

from attest.web.oidc.errors import ProviderUnavailable
from policy.errors import MalformedInput
from policy.strictjson import strict_json

MAX_SET = 256 * 1024
MAX_KEYS = 64
RSA_BITS = range(2048, 8193)
_MAX_MODULUS = 1400
_SECRET_MEMBERS = ("d", "p", "q", "k")
_FITS: dict[tuple[object, object], tuple[str, ...]] = {
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
_RSA = ("PS256", "RS256")

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey


@dataclass(frozen=True, slots=True)
class ProviderKey:
    """A public key, and the algorithms it may be used with."""

    kid: str
    key: PublicKey
    algorithms: tuple[str, ...]


class KeySetRefused(ProviderUnavailable):
    """A JWK Set that cannot be used."""

    code = "oidc.keys"


def parse_key_set(data: bytes) -> dict[str, ProviderKey]:
    """Keys by their name. Raises KeySetRefused."""
    found = provider_json(data, "oidc: key set", MAX_SET)
    entries = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise KeySetRefused("oidc: key set: want an object with a list of keys")
    if len(entries) > MAX_KEYS:
        raise KeySetRefused(f"oidc: key set: {len(entries)} keys, want at most {MAX_KEYS}")
    keys: dict[str, ProviderKey] = {}
    for key in filter(None, map(_key, entries)):
        if key.kid in keys:
            raise KeySetRefused(f"oidc: key set: two keys are named {key.kid[:60]!r}")
        keys[key.kid] = key
    return keys


def provider_json(data: bytes, what: str, max_bytes: int) -> object:
    """What a provider answered. Raises ProviderUnavailable: that it is no JSON is no fault of whoever shows a token."""
    try:
        return strict_json(data, what, max_bytes=max_bytes)
    except MalformedInput as exc:
        raise ProviderUnavailable(exc.message) from None


def _key(entry: dict[str, Any]) -> ProviderKey | None:
    """One member of the set; ``None`` for one that is for something else."""
    if any(name in entry for name in _SECRET_MEMBERS):
        raise KeySetRefused("oidc: key set: it holds a private or symmetric key")
    kid, kind = entry.get("kid"), entry.get("kty")
    fits = _RSA if kind == "RSA" else _FITS.get((str(kind), str(entry.get("crv"))), ())
    stated = entry.get("alg")
    algorithms = fits if stated is None else tuple(name for name in fits if name == stated)
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(kid, str) or entry.get("use", "sig") != "sig" or not algorithms:
        return None
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    return ProviderKey(kid, _public(entry, kid, algorithms[0]), algorithms)


def _public(entry: dict[str, Any], kid: str, algorithm: str) -> PublicKey:
    if len(str(entry.get("n", ""))) > _MAX_MODULUS:
        raise KeySetRefused(f"oidc: key {kid[:60]!r}: RSA, want {RSA_BITS[0]} to {RSA_BITS[-1]} bits")
    try:
        key = get_default_algorithms()[algorithm].from_jwk(entry)
    except (jwt.InvalidKeyError, ValueError, TypeError, KeyError) as exc:
        raise KeySetRefused(f"oidc: key {kid[:60]!r}: {str(exc)[:200]}") from None
    if isinstance(key, rsa.RSAPublicKey) and key.key_size not in RSA_BITS:
        raise KeySetRefused(f"oidc: key {kid[:60]!r}: RSA of {key.key_size} bits, want {RSA_BITS[0]} to {RSA_BITS[-1]}")
    if not isinstance(key, PublicKey):
        raise KeySetRefused(f"oidc: key {kid[:60]!r}: not a public key")
    return key
