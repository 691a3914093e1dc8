"""Keys attestation tokens are signed with: ECDSA on P-256 (ES256) or P-384 (ES384), named by RFC 7638 thumbprint."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    EllipticCurve,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from attest.keys.errors import KeyFileRefused
from attest.keys.files import read_private, write_private


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A JWS algorithm: its curve, the curve's JWK name, the bytes of one coordinate."""

    name: str
    curve: EllipticCurve
    curve_name: str
    size: int


ES256 = Algorithm("ES256", SECP256R1(), "P-256", 32)
ES384 = Algorithm("ES384", SECP384R1(), "P-384", 48)
ALGORITHMS = {entry.name: entry for entry in (ES256, ES384)}


class SigningKey:
    """A token key with its public JWK, ``kid`` and the one algorithm it is used with."""

    __slots__ = ("algorithm", "jwk", "kid", "private")

    def __init__(self, private: EllipticCurvePrivateKey) -> None:
        self.private = private
        algorithm = _algorithm(private)
        public = _public_jwk(private.public_key(), algorithm)
        self.algorithm = algorithm.name
        self.kid = thumbprint(public)
        self.jwk = {**public, "alg": algorithm.name, "kid": self.kid, "use": "sig"}

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The JSON Web Key Set of this key alone."""
        return {"keys": [dict(self.jwk)]}


def load_signing_key(path: Path) -> SigningKey:
    """From an unencrypted PKCS #8 PEM file that only this user can read."""
    return parse_signing_key(read_private(path), str(path))


def parse_signing_key(data: bytes, what: str) -> SigningKey:
    """From the bytes of such a file; ``what`` names it in errors."""
    try:
        private = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyFileRefused(f"token key {what}: not an unencrypted PEM private key") from None
    if not isinstance(private, EllipticCurvePrivateKey) or private.curve.name not in _CURVES:
        raise KeyFileRefused(f"token key {what}: want an EC key on P-256 or P-384")
    return SigningKey(private)


def make_signing_key(path: Path, algorithm: Algorithm = ES256) -> SigningKey:
    """Make a key and write it to a new file, mode 0600."""
    key, pem = generate_signing_key(algorithm)
    write_private(path, pem)
    return key


def generate_signing_key(algorithm: Algorithm = ES256) -> tuple[SigningKey, bytes]:
    """A new key, and its unencrypted PKCS #8 PEM."""
    private = generate_private_key(algorithm.curve)
    return SigningKey(private), private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def thumbprint(jwk: dict[str, str]) -> str:
    """RFC 7638 thumbprint of an EC public key: base64url SHA-256 of its required members in lexical order."""
    canonical = f'{{"crv":"{jwk["crv"]}","kty":"{jwk["kty"]}","x":"{jwk["x"]}","y":"{jwk["y"]}"}}'
    return base64.urlsafe_b64encode(hashlib.sha256(canonical.encode()).digest()).rstrip(b"=").decode()


_CURVES = {entry.curve.name: entry for entry in ALGORITHMS.values()}


def _algorithm(private: EllipticCurvePrivateKey) -> Algorithm:
    return _CURVES[private.curve.name]


def _public_jwk(key: EllipticCurvePublicKey, algorithm: Algorithm) -> dict[str, str]:
    numbers = key.public_numbers()
    coordinates = (number.to_bytes(algorithm.size, "big") for number in (numbers.x, numbers.y))
    x, y = (base64.urlsafe_b64encode(data).rstrip(b"=").decode() for data in coordinates)
    return {"kty": "EC", "crv": algorithm.curve_name, "x": x, "y": y}
