"""P-384 keys for tests, made from small numbers: they sign nothing anybody relies on."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec


def private_key(number: int) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(number + 0x1234567, ec.SECP384R1())
