"""P-256 keys and signatures: one encoding of a key, r || s as quotes and Intel's JSON have it."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attest.emulator.td_pki import sign_raw
from attest.evidence.p256 import SPKI_HEADER, p256_key
from tests.fakes.intel_pki import key_of

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
DIGEST = hashlib.sha256(b"data").digest()


def spki(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


GOOD = spki(key_of("PCK").public_key())


@pytest.mark.parametrize(("r", "s"), [(0, 1), (1, 0), (ORDER, 1), (1, ORDER), (2**256 - 1, 2**256 - 1), (0, 0)])
def test_numbers_outside_the_group_never_verify(r: int, s: int) -> None:
    assert not p256_key(GOOD).verifies(r.to_bytes(32, "big") + s.to_bytes(32, "big"), DIGEST)


def test_a_raw_signature_verifies_its_own_data_under_its_own_key() -> None:
    signature = sign_raw(key_of("PCK"), b"data")
    assert p256_key(GOOD).verifies(signature, DIGEST)
    assert not p256_key(GOOD).verifies(signature, hashlib.sha256(b"datb").digest())
    assert not p256_key(spki(key_of("ROOT").public_key())).verifies(signature, DIGEST)


def test_a_key_says_its_own_encoding() -> None:
    assert p256_key(GOOD).spki == GOOD


def _compressed() -> bytes:
    point = key_of("PCK").public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    return bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + point


@pytest.mark.parametrize(
    "data",
    [
        b"", GOOD[:-1], GOOD + b"\0", _compressed(), SPKI_HEADER + bytes(64), GOOD[:26] + b"\x06" + GOOD[27:],
        spki(ec.generate_private_key(ec.SECP256K1()).public_key()), spki(ec.generate_private_key(ec.SECP384R1()).public_key()),
    ],
    ids=["nothing", "cut", "followed", "compressed", "no point", "hybrid", "secp256k1", "P-384"],
)  # fmt: skip
def test_anything_but_an_uncompressed_point_of_the_curve_is_no_key(data: bytes) -> None:
    with pytest.raises(ValueError, match="P-256"):
        p256_key(data)
