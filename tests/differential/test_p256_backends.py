"""AWS-LC and OpenSSL give the same verdict on every P-256 signature: good, flipped, and numbers outside the group."""

from __future__ import annotations

import hashlib

import pytest

from attest.emulator.td_pki import sign_raw
from attest.endorsement.p256 import with_awscrt, with_cryptography
from tests.fakes.intel_pki import key_of

pytest.importorskip("awscrt", reason="awscrt is not installed")
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
KEY = key_of("attestation")
BACKENDS = [with_awscrt(KEY.public_key()), with_cryptography(KEY.public_key())]


def verdicts(signature: bytes, digest: bytes) -> list[bool]:
    return [verifies(signature, digest) for verifies in BACKENDS]


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
