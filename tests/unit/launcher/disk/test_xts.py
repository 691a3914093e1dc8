"""launcher.image.xts against the published vectors and against itself."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import XTS
from hypothesis import given
from hypothesis import strategies as st

from launcher.image.xts import SECTOR, decrypt_sectors, encrypt_sectors

KEY = bytes(range(64))


def test_the_first_blocks_equal_vector_10_of_ieee_1619() -> None:
    """IEEE 1619-2007, vector 10: AES-256, data unit sequence number ff."""
    key = bytes.fromhex(
        "2718281828459045235360287471352662497757247093699959574966967627"
        "3141592653589793238462643383279502884197169399375105820974944592"
    )
    context = Cipher(AES(key), XTS((0xFF).to_bytes(16, "little"))).encryptor()
    first = context.update(bytes(range(32)))
    assert first.hex() == "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b"


def test_sectors_are_numbered_in_units_of_512_bytes() -> None:
    """Sector 3 of 4096 bytes has the tweak 24 (dm-crypt without iv_large_sectors)."""
    context = Cipher(AES(KEY), XTS((24).to_bytes(16, "little"))).encryptor()
    assert encrypt_sectors(KEY, 3, bytes(SECTOR)) == context.update(bytes(SECTOR))


@given(st.integers(0, 1 << 40), st.binary(min_size=1, max_size=64))
def test_decrypting_gives_back_what_was_encrypted(first: int, seed: bytes) -> None:
    data = (seed * SECTOR)[: 2 * SECTOR]
    data += bytes(-len(data) % SECTOR)
    assert decrypt_sectors(KEY, first, encrypt_sectors(KEY, first, data)) == data


def test_equal_sectors_at_different_places_look_different() -> None:
    both = encrypt_sectors(KEY, 0, bytes(2 * SECTOR))
    assert both[:SECTOR] != both[SECTOR:]


@pytest.mark.parametrize(("key", "length"), [(KEY[:32], SECTOR), (KEY, 100)])
def test_a_short_key_or_part_of_a_sector_is_misuse(key: bytes, length: int) -> None:
    with pytest.raises(TypeError):
        encrypt_sectors(key, 0, bytes(length))
