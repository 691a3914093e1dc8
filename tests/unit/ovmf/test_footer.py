"""The footer table: what is read, and every way it can be wrong."""

from __future__ import annotations

from struct import pack

import pytest

from ovmf.errors import FirmwareMalformed
from ovmf.footer import SEV_ES_RESET_BLOCK, SEV_HASH_TABLE, parse_footer
from ovmf.guid import efi_guid, guid_text
from tests.fakes import firmware as fake


def refused(data: bytes, message: str) -> None:
    with pytest.raises(FirmwareMalformed, match=message):
        parse_footer(data)


def test_a_guid_is_read_back_as_it_was_written() -> None:
    text = "96b582de-1fb2-45f7-baea-a366c55a082d"
    assert efi_guid(text).hex() == "de82b596b21ff745baeaa366c55a082d"
    assert guid_text(efi_guid(text)) == text


def test_the_table_gives_start_address_hash_table_and_metadata() -> None:
    footer = parse_footer(fake.image())
    assert footer.reset_eip() == fake.AP_EIP
    assert footer.hash_table_gpa() == fake.HASH_TABLE
    assert footer.metadata_offset() == fake.METADATA_FROM_END


def test_an_unknown_entry_is_passed_over() -> None:
    footer = parse_footer(fake.image([fake.entry(b"\x11" * 16, b"whatever"), *fake.standard_entries()]))
    assert footer.reset_eip() == fake.AP_EIP


def test_an_image_without_hash_table_or_metadata_says_so() -> None:
    footer = parse_footer(fake.image([fake.entry(SEV_ES_RESET_BLOCK, pack("<I", 16))]))
    assert footer.hash_table_gpa() is None
    assert footer.metadata_offset() is None


def test_a_hash_table_at_address_zero_is_no_hash_table() -> None:
    footer = parse_footer(fake.image([fake.entry(SEV_HASH_TABLE, bytes(8))]))
    assert footer.hash_table_gpa() is None


def test_a_hash_table_area_too_small_for_the_table_is_refused() -> None:
    footer = parse_footer(fake.image([fake.entry(SEV_HASH_TABLE, pack("<II", 0x810C00, 175))]))
    with pytest.raises(FirmwareMalformed, match="got 175 bytes, want at least 176"):
        footer.hash_table_gpa()


def test_an_image_without_the_footer_guid_is_refused() -> None:
    refused(bytes(4096), "footer GUID at 0xFD0: got 00000000-")


def test_an_image_shorter_than_a_footer_is_refused() -> None:
    refused(bytes(49), "too short")


@pytest.mark.parametrize("total", [0, 17])
def test_a_table_shorter_than_its_own_header_is_refused(total: int) -> None:
    refused(fake.image(total=total), f"table length {total}")


def test_a_table_longer_than_the_image_is_refused() -> None:
    refused(fake.image(total=0xFFFF, size=4096), "table length 65535")


@pytest.mark.parametrize("length", [0, 1, 17])
def test_an_entry_shorter_than_its_header_is_refused_instead_of_looping(length: int) -> None:
    refused(fake.image([fake.entry(SEV_ES_RESET_BLOCK, bytes(4), length)]), f"length {length}, want 18..22")


def test_an_entry_that_reaches_beyond_the_table_is_refused() -> None:
    refused(fake.image([fake.entry(SEV_ES_RESET_BLOCK, bytes(4), 23)]), "length 23, want 18..22")


def test_bytes_that_belong_to_no_entry_are_refused() -> None:
    refused(fake.image([b"xyz", *fake.standard_entries()]), "3 bytes at 0x.* belong to no entry")


def test_a_guid_that_appears_twice_is_refused() -> None:
    refused(fake.image([fake.standard_entries()[0], *fake.standard_entries()]), "00f771de-.* appears twice")


def test_a_missing_reset_block_is_refused_with_advice() -> None:
    with pytest.raises(FirmwareMalformed, match="no SEV-ES reset block") as caught:
        parse_footer(fake.image([])).reset_eip()
    assert caught.value.hint is not None


def test_a_reset_block_of_zero_is_refused() -> None:
    with pytest.raises(FirmwareMalformed, match="address is 0"):
        parse_footer(fake.image([fake.entry(SEV_ES_RESET_BLOCK, bytes(4))])).reset_eip()


def test_a_reset_block_that_is_cut_short_is_refused() -> None:
    with pytest.raises(FirmwareMalformed, match="got 3 bytes, want 4"):
        parse_footer(fake.image([fake.entry(SEV_ES_RESET_BLOCK, bytes(3))])).reset_eip()
