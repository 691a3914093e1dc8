"""ECDSA P-256 with SHA-256, by whichever library is fastest here; the verdicts are the same.

``awscrt`` (AWS-LC) takes three quarters of the time of ``cryptography`` (OpenSSL) and is optional. Sources: FIPS 186-5,
section 6.4; RFC 5480, section 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

try:
    from awscrt import crypto as _aws
except ImportError:  # an optional extra
    _aws = None

_ECDSA = ec.ECDSA(Prehashed(hashes.SHA256()))
SPKI_HEADER = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
"""A SubjectPublicKeyInfo of P-256 up to x || y (64 bytes): named curve, uncompressed point."""
_SPKI_SIZE = len(SPKI_HEADER) + 64
Verifies = Callable[[bytes, bytes], bool]
"""Whether a signature (DER, ECDSA-Sig-Value) is a key's over data of this SHA-256 digest."""


class P256Key(NamedTuple):
    """A public key: its SubjectPublicKeyInfo, and whether a DER signature over a SHA-256 digest is its own."""

    spki: bytes
    verifies_der: Verifies

    def verifies(self, signature: bytes, digest: bytes) -> bool:
        """The same for r || s, 32 bytes each, big-endian. Zero and too large refuse."""
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        return self.verifies_der(encode_dss_signature(r, s), digest)


def p256_key(spki: bytes) -> P256Key:
    """Raises ``ValueError`` for anything but a point of P-256 in its uncompressed encoding."""
    if len(spki) != _SPKI_SIZE or not spki.startswith(SPKI_HEADER):
        raise ValueError("not a P-256 key with an uncompressed point")
    return P256Key(spki, fastest(spki))


def with_cryptography(spki: bytes) -> Verifies:
    """For a key that :func:`p256_key` reads. Raises ``ValueError`` where its numbers are no point of the curve."""
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), spki[len(SPKI_HEADER) - 1 :])

    def verifies(signature: bytes, digest: bytes) -> bool:
        try:
            key.verify(signature, digest, _ECDSA)
        except InvalidSignature:
            return False
        return True

    return verifies


def with_awscrt(spki: bytes) -> Verifies:
    """As :func:`with_cryptography`."""
    try:
        key = _aws.EC.new_key_from_der_data(spki)
    except RuntimeError as exc:  # all that its binding raises
        raise ValueError(f"no point of P-256: {exc}") from None

    def verifies(signature: bytes, digest: bytes) -> bool:
        return bool(key.verify(digest, signature))

    return verifies


fastest = with_cryptography if _aws is None else with_awscrt
