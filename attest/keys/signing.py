"""The key attestation tokens are signed with: ECDSA P-256 (ES256), named by its RFC 7638 thumbprint."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
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


class SigningKey:
    """A token key with its public JWK and ``kid``."""

    __slots__ = ("jwk", "kid", "private")

    def __init__(self, private: EllipticCurvePrivateKey) -> None:
        self.private = private
        public = _public_jwk(private.public_key())
        self.kid = thumbprint(public)
        self.jwk = {**public, "alg": "ES256", "kid": self.kid, "use": "sig"}

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The JSON Web Key Set other services verify our tokens with."""
        return {"keys": [dict(self.jwk)]}


def load_signing_key(path: Path) -> SigningKey:
    """From an unencrypted PKCS #8 PEM file that only this user can read."""
    try:
        private = load_pem_private_key(read_private(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyFileRefused(f"token key {path}: not an unencrypted PEM private key") from None
    if not isinstance(private, EllipticCurvePrivateKey) or not isinstance(private.curve, SECP256R1):
        raise KeyFileRefused(f"token key {path}: want an EC key on P-256")
    return SigningKey(private)


def make_signing_key(path: Path) -> SigningKey:
    """Make a key and write it to a new file, mode 0600."""
    private = generate_private_key(SECP256R1())
    write_private(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return SigningKey(private)


def thumbprint(jwk: dict[str, str]) -> str:
    """RFC 7638 thumbprint of an EC public key: base64url SHA-256 of its required members in lexical order."""
    canonical = f'{{"crv":"{jwk["crv"]}","kty":"{jwk["kty"]}","x":"{jwk["x"]}","y":"{jwk["y"]}"}}'
    return base64.urlsafe_b64encode(hashlib.sha256(canonical.encode()).digest()).rstrip(b"=").decode()


def _public_jwk(key: EllipticCurvePublicKey) -> dict[str, str]:
    numbers = key.public_numbers()
    x, y = (base64.urlsafe_b64encode(n.to_bytes(32, "big")).rstrip(b"=").decode() for n in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "P-256", "x": x, "y": y}
