"""AWS-LC and OpenSSL give the same verdict on every P-256 signature and key: good, flipped, outside the group, not DER."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attest.emulator.td_pki import sign_raw
from attest.evidence.p256 import SPKI_HEADER, P256Key, with_awscrt, with_cryptography
from tests.fakes.intel_pki import key_of

pytest.importorskip("awscrt", reason="awscrt is not installed")
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
KEY = key_of("attestation")
SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
BACKENDS = [P256Key(SPKI, load(SPKI)) for load in (with_awscrt, with_cryptography)]


def verdicts(signature: bytes, digest: bytes) -> list[bool]:
    return [key.verifies(signature, digest) for key in BACKENDS]


def test_a_good_signature_verifies_and_no_flipped_bit_does() -> None:
    digest = hashlib.sha256(b"signed").digest()
    good = sign_raw(KEY, b"signed")
    assert verdicts(good, digest) == [True, True]
    for place in range(512):
        flipped = bytearray(good)
        flipped[place // 8] ^= 1 << place % 8
        assert verdicts(bytes(flipped), digest) == [False, False]
    for place in range(256):
        other = bytearray(digest)
        other[place // 8] ^= 1 << place % 8
        assert verdicts(good, bytes(other)) == [False, False]


def test_both_accept_the_other_s_of_a_signature() -> None:
    """(r, n - s) verifies wherever (r, s) does: a signature is no identity."""
    good = sign_raw(KEY, b"signed")
    turned = (ORDER - int.from_bytes(good[32:], "big")).to_bytes(32, "big")
    assert verdicts(good[:32] + turned, hashlib.sha256(b"signed").digest()) == [True, True]


@pytest.mark.parametrize("r", [0, 1, ORDER - 1, ORDER, ORDER + 1, 2**256 - 1])
@pytest.mark.parametrize("s", [0, 1, ORDER - 1, ORDER, ORDER + 1, 2**256 - 1])
def test_numbers_at_the_edge_of_the_group_are_judged_alike(r: int, s: int) -> None:
    assert verdicts(r.to_bytes(32, "big") + s.to_bytes(32, "big"), bytes(32)) == [False, False]


def test_a_signature_has_one_der_encoding() -> None:
    digest = hashlib.sha256(b"signed").digest()
    good = KEY.sign(b"signed", ec.ECDSA(hashes.SHA256()))
    others = [
        good + b"\0", good[:-1], b"", b"\x30", b"\x30\x81" + good[1:], b"\x30\x80" + good[2:] + b"\0\0",
        bytes([0x30, good[1] + 1, 2, good[3] + 1, 0]) + good[4:], b"\x31" + good[1:],
    ]  # fmt: skip
    others += [
        good[:place] + bytes([good[place] ^ 1 << bit]) + good[place + 1 :] for place in range(4) for bit in range(8)
    ]
    assert [key.verifies_der(good, digest) for key in BACKENDS] == [True, True]
    for other in others:
        assert [key.verifies_der(other, digest) for key in BACKENDS] == [False, False], other.hex()


@pytest.mark.parametrize(
    "point",
    [bytes(64), b"\xff" * 64, b"\1" * 64, SPKI[27:90] + bytes([SPKI[90] ^ 1])],
    ids=["zero", "too large", "ones", "beside a point"],
)
def test_numbers_that_are_no_point_of_the_curve_are_no_key(point: bytes) -> None:
    for load in (with_awscrt, with_cryptography):
        with pytest.raises(ValueError):
            load(SPKI_HEADER + point)
