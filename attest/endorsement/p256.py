"""ECDSA P-256 with SHA-256 under one attestation key, by whichever library is fastest here; the verdicts are the same.

``awscrt`` (AWS-LC) takes three quarters of the time of ``cryptography`` (OpenSSL) and is optional. Source: FIPS 186-5,
section 6.4.
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

try:
    from awscrt import crypto as _aws
except ImportError:  # an optional extra
    _aws = None

_ECDSA = ec.ECDSA(Prehashed(hashes.SHA256()))
Verifies = Callable[[bytes, bytes], bool]
"""Whether a signature, r || s of 32 bytes each, big-endian, is the key's over data of this SHA-256 digest."""


def der_signature(signature: bytes) -> bytes:
    """ECDSA-Sig-Value of r || s."""
    return encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))


def with_cryptography(key: ec.EllipticCurvePublicKey) -> Verifies:
    """A function for ``key``, which is on P-256."""

    def verifies(signature: bytes, digest: bytes) -> bool:
        try:
            key.verify(der_signature(signature), digest, _ECDSA)
        except InvalidSignature:
            return False
        return True

    return verifies


def with_awscrt(key: ec.EllipticCurvePublicKey) -> Verifies:
    """As :func:`with_cryptography`, which has read the key and judged the point."""
    loaded = _aws.EC.new_key_from_der_data(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    def verifies(signature: bytes, digest: bytes) -> bool:
        return bool(loaded.verify(digest, der_signature(signature)))

    return verifies


fastest = with_cryptography if _aws is None else with_awscrt
