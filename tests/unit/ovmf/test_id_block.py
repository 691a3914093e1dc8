"""ID block and ID authentication: bytes as the chip reads them, and every broken part refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from ovmf.errors import IdBlockInvalid, IdBlockMalformed, KeyUnusable, LaunchInvalid
from ovmf.id_block import IdBlock, parse_id_auth, parse_id_block, sign_id_block, verify_id_block
from ovmf.sev_key import key_digest, parse_public_key, private_key_from_pem, public_key_bytes, public_key_from_pem
from policy.vocab import LaunchDigest
from tests.unit.ovmf.keys import private_key

BLOCK = IdBlock(LaunchDigest(b"D" * 48), b"F" * 16, b"I" * 16, 3, 0x30000)
KEY, AUTHOR = private_key(1), private_key(2)
SIGNED = sign_id_block(BLOCK, KEY, AUTHOR)


def test_the_known_block_and_key_digests_come_out(vectors: Path) -> None:
    known = json.loads((vectors / "snp" / "idblock" / "sev_snp_measure.json").read_text())
    key = private_key_from_pem(known["id_key_pem"].encode(), "ID key")
    author = private_key_from_pem(known["author_key_pem"].encode(), "author key")
    block = IdBlock(LaunchDigest.from_hex(known["launch_digest"]))
    auth = sign_id_block(block, key, author)
    assert block.to_bytes().hex() == known["id_block_hex"]
    assert auth.id_key.hex().startswith(known["id_public_key_sev_hex"])
    assert auth.id_key_digest.hex() == known["id_key_digest"]
    assert auth.author_key_digest is not None
    assert auth.author_key_digest.hex() == known["author_key_digest"]
    assert len(auth.to_bytes()) == known["id_auth_size"]


def test_what_was_signed_verifies_and_reads_back() -> None:
    assert verify_id_block(BLOCK.to_bytes(), SIGNED.to_bytes(), launch_digest=BLOCK.launch_digest) == (BLOCK, SIGNED)
    alone = sign_id_block(BLOCK, KEY)
    assert verify_id_block(BLOCK.to_bytes(), alone.to_bytes()) == (BLOCK, alone)
    assert alone.author_key_digest is None


def test_signing_twice_gives_the_same_bytes() -> None:
    assert sign_id_block(BLOCK, KEY, AUTHOR).to_bytes() == SIGNED.to_bytes()


def test_another_launch_digest_is_refused() -> None:
    with pytest.raises(IdBlockInvalid, match="launch digest"):
        verify_id_block(BLOCK.to_bytes(), SIGNED.to_bytes(), launch_digest=LaunchDigest(b"E" * 48))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 96 * 8 - 1))
def test_no_bit_of_the_block_can_change(bit: int) -> None:
    raw = bytearray(BLOCK.to_bytes())
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises((IdBlockInvalid, IdBlockMalformed)):
        verify_id_block(bytes(raw), SIGNED.to_bytes())


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 4096 * 8 - 1))
def test_no_bit_of_the_authentication_can_change(bit: int) -> None:
    raw = bytearray(SIGNED.to_bytes())
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises((IdBlockInvalid, IdBlockMalformed)):
        verify_id_block(BLOCK.to_bytes(), bytes(raw))


def test_the_id_key_of_another_author_is_refused() -> None:
    mixed = sign_id_block(BLOCK, KEY)._replace(
        author_signature=sign_id_block(BLOCK, AUTHOR, AUTHOR).author_signature, author_key=SIGNED.author_key
    )
    with pytest.raises(IdBlockInvalid, match="author signature"):
        verify_id_block(BLOCK.to_bytes(), mixed.to_bytes())


def test_an_author_signature_without_author_is_refused() -> None:
    raw = bytearray(sign_id_block(BLOCK, KEY).to_bytes())
    raw[0x680] = 1
    with pytest.raises(IdBlockMalformed, match="no author key"):
        parse_id_auth(bytes(raw))


@pytest.mark.parametrize(
    "block",
    [
        BLOCK._replace(family_id=b"short"),
        BLOCK._replace(guest_svn=1 << 32),
        BLOCK._replace(policy=0x10000),
        BLOCK._replace(policy=1 << 64 | 0x20000),
    ],
)
def test_a_block_that_cannot_be_is_not_written(block: IdBlock) -> None:
    with pytest.raises(LaunchInvalid):
        block.to_bytes()


@given(st.binary(max_size=128))
def test_any_bytes_are_a_block_or_refused(raw: bytes) -> None:
    try:
        assert parse_id_block(raw).to_bytes() == raw
    except IdBlockMalformed:
        pass


def test_a_key_is_a_point_of_the_curve() -> None:
    raw = public_key_bytes(KEY.public_key())
    assert public_key_bytes(parse_public_key(raw, "key")) == raw
    assert len(key_digest(raw)) == 48
    for wrong in (raw[:-1], b"\3" + raw[1:], raw[:4] + b"\1" * 48 + raw[52:], raw[:-1] + b"\1", bytes(0x404)):
        with pytest.raises(IdBlockMalformed):
            parse_public_key(wrong, "key")


def pem(key: ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    scheme = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, scheme)


def test_a_public_key_file_has_the_digest_of_its_private_key() -> None:
    public = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert public_key_from_pem(public, "file") == public_key_from_pem(pem(KEY), "file") == SIGNED.id_key


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"nothing", "no private key"),
        (pem(KEY, b"secret"), "encrypted"),
        (pem(ec.derive_private_key(5, ec.SECP256R1())), "P-384"),
    ],
    ids=["no key", "encrypted", "other curve"],
)
def test_a_key_file_that_is_no_use_is_refused_in_words(data: bytes, words: str) -> None:
    with pytest.raises(KeyUnusable, match=words):
        private_key_from_pem(data, "ID key")
