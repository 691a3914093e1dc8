"""The boot hash table, byte for byte as QEMU writes it."""

from __future__ import annotations

from hashlib import sha256

import pytest

from ovmf.errors import HashTableMalformed, LaunchInvalid
from ovmf.kernel_hashes import (
    NO_INITRD,
    KernelHashes,
    cmdline_hash,
    hash_table_bytes,
    kernel_hashes_page,
    parse_hash_table,
)

HASHES = KernelHashes(b"K" * 32, b"I" * 32, b"C" * 32)


def test_the_table_is_what_qemu_writes() -> None:
    expected = (
        "06d63894224fc94cb479a793d411fd21" "a800"
        "d82dd09720bd944caa78e7714d36ab2a" "3200" + b"C".hex() * 32
        + "31f7ba442f3ad74b9af141e29169781d" "3200" + b"I".hex() * 32
        + "3794e74dd2ab7f42b835d5b172d2045b" "3200" + b"K".hex() * 32
        + "00" * 8
    )  # fmt: skip
    assert hash_table_bytes(HASHES).hex() == expected
    assert len(hash_table_bytes(HASHES)) == 176


def test_a_table_is_read_back() -> None:
    assert parse_hash_table(hash_table_bytes(HASHES)) == HASHES


def test_equal_hashes_are_equal_and_others_are_not() -> None:
    assert KernelHashes(b"K" * 32, b"I" * 32, b"C" * 32) == HASHES
    assert KernelHashes(b"K" * 32, b"C" * 32, b"I" * 32) != HASHES
    assert len({HASHES, KernelHashes(b"K" * 32, b"I" * 32, b"C" * 32)}) == 1
    assert b"K".hex() * 32 in repr(HASHES)


NOT_HASHES = [*range(36), *range(68, 86), *range(118, 136), *range(168, 176)]


@pytest.mark.parametrize("offset", NOT_HASHES)
def test_a_changed_guid_length_or_padding_byte_is_refused(offset: int) -> None:
    table = bytearray(hash_table_bytes(HASHES))
    table[offset] ^= 1
    with pytest.raises(HashTableMalformed):
        parse_hash_table(bytes(table))


@pytest.mark.parametrize("length", [0, 168, 175, 177])
def test_a_table_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(HashTableMalformed):
        parse_hash_table(hash_table_bytes(HASHES).ljust(length, b"\0")[:length])


def test_the_page_holds_the_table_at_the_firmwares_address() -> None:
    page = kernel_hashes_page(HASHES, 0x810C00)
    assert len(page) == 4096
    assert page == bytes(0xC00) + hash_table_bytes(HASHES) + bytes(4096 - 0xC00 - 176)


def test_a_table_across_a_page_boundary_is_refused() -> None:
    assert kernel_hashes_page(HASHES, 0x1000 - 176).endswith(hash_table_bytes(HASHES))
    with pytest.raises(LaunchInvalid, match="crosses a page boundary"):
        kernel_hashes_page(HASHES, 0x1000 - 175)


def test_the_command_line_is_hashed_with_its_nul() -> None:
    assert cmdline_hash(b"console=ttyS0") == sha256(b"console=ttyS0\0").digest()
    assert cmdline_hash(b"") == sha256(b"\0").digest()
    assert sha256(b"").digest() == NO_INITRD


def test_a_command_line_with_a_nul_inside_is_refused() -> None:
    with pytest.raises(LaunchInvalid, match="NUL"):
        cmdline_hash(b"a\0b")


def test_a_hash_of_another_length_is_refused() -> None:
    with pytest.raises(LaunchInvalid, match="initrd hash: got 31 bytes, want 32"):
        KernelHashes(bytes(32), bytes(31), bytes(32))
