"""The SEV metadata: order is kept, and nothing ambiguous is measured."""

from __future__ import annotations

from struct import pack

import pytest

from ovmf.errors import FirmwareMalformed
from ovmf.firmware import MAX_FIRMWARE, Firmware
from ovmf.footer import SEV_ES_RESET_BLOCK, SEV_METADATA
from tests.fakes import firmware as fake


def refused(sections: fake.Sections, message: str) -> None:
    with pytest.raises(FirmwareMalformed, match=message):
        Firmware.from_bytes(fake.image(block=fake.metadata(sections)))


def block_refused(block: bytes, message: str) -> None:
    with pytest.raises(FirmwareMalformed, match=message):
        Firmware.from_bytes(fake.image(block=block))


def test_sections_keep_the_order_of_the_file() -> None:
    assert list(Firmware.from_bytes(fake.image()).layout.sections) == fake.AMDSEV_SECTIONS


def test_an_image_without_metadata_has_no_sections() -> None:
    assert Firmware.from_bytes(fake.image(fake.standard_entries()[:2])).layout.sections == ()


def test_metadata_may_be_larger_than_its_sections_need() -> None:
    block = bytearray(fake.metadata(fake.AMDSEV_SECTIONS) + bytes(12))
    block[4:8] = pack("<I", len(block))
    assert list(Firmware.from_bytes(fake.image(block=bytes(block))).layout.sections) == fake.AMDSEV_SECTIONS


def test_a_wrong_signature_is_refused() -> None:
    block_refused(fake.metadata([], signature=b"ASEW"), "signature at 0x1A00: got 41534557")


@pytest.mark.parametrize("version", [0, 2])
def test_another_version_is_refused(version: int) -> None:
    block_refused(fake.metadata([], version=version), f"version: got {version}, want 1")


@pytest.mark.parametrize("count", [8, 9000, 0xFFFFFFFF])
def test_a_count_beyond_the_size_is_refused(count: int) -> None:
    block_refused(fake.metadata(fake.AMDSEV_SECTIONS, count=count), f"count: got {count} sections")


def test_a_size_beyond_the_end_of_the_image_is_refused() -> None:
    block = bytearray(fake.metadata(fake.AMDSEV_SECTIONS))
    block[4:8] = pack("<I", fake.METADATA_FROM_END + 1)
    block_refused(bytes(block), "size: got 1537")


@pytest.mark.parametrize("offset", [8193, 0xFFFFFFFF])
def test_an_offset_outside_the_image_is_refused(offset: int) -> None:
    entries = [fake.standard_entries()[0], fake.entry(SEV_METADATA, pack("<I", offset))]
    with pytest.raises(FirmwareMalformed, match="from the end of 8192 bytes is outside"):
        Firmware.from_bytes(fake.image(entries))


@pytest.mark.parametrize("offset", [0, 3, 15])
def test_an_offset_too_near_the_end_is_refused(offset: int) -> None:
    entries = [fake.standard_entries()[0], fake.entry(SEV_METADATA, pack("<I", offset))]
    with pytest.raises(FirmwareMalformed):
        Firmware.from_bytes(fake.image(entries))


@pytest.mark.parametrize("kind", [0, 5, 0x77, 0xFFFFFFFF])
def test_an_unknown_type_of_section_is_refused(kind: int) -> None:
    refused([(0x800000, 0x1000, kind)], f"type got 0x{kind:X}, want 1, 2, 3, 4 or 0x10")


@pytest.mark.parametrize(("gpa", "size"), [(0x800001, 0x1000), (0x800000, 0x1001), (0x800000, 0)])
def test_a_section_that_is_not_whole_pages_is_refused(gpa: int, size: int) -> None:
    refused([(gpa, size, 1)], "want whole 4 KiB pages, at least one")


@pytest.mark.parametrize("kind", [2, 3, 0x10])
def test_a_section_for_one_page_of_data_has_one_page(kind: int) -> None:
    refused([(0x800000, 0x2000, kind)], "size got 0x2000, want 0x1000")


def test_sections_that_overlap_are_refused() -> None:
    refused([(0x801000, 0x2000, 1), (0x800000, 0x2000, 1)], "overlap at 0x801000")


def test_a_section_named_twice_is_refused() -> None:
    refused([(0x800000, 0x1000, 2), (0x800000, 0x1000, 2)], "overlap at 0x800000")


def test_a_section_inside_the_image_itself_is_refused() -> None:
    refused([(0xFFFFD000, 0x2000, 1)], "ends at 0xFFFFF000, want at most 0xFFFFE000")


def test_sections_that_cover_absurdly_much_memory_are_refused() -> None:
    refused([(0x800000, 0x4001000, 1)], "more than 64 MiB")


@pytest.mark.parametrize("size", [0, 512, 4097])
def test_an_image_that_is_not_whole_pages_is_refused(size: int) -> None:
    with pytest.raises(FirmwareMalformed, match=f"size got {size} bytes"):
        Firmware.from_bytes(bytes(size))


def test_an_absurdly_large_image_is_refused() -> None:
    with pytest.raises(FirmwareMalformed, match="at most 64 MiB"):
        Firmware.from_bytes(bytes(MAX_FIRMWARE + 4096))


def test_an_image_of_one_page_is_enough() -> None:
    assert (
        Firmware.from_bytes(fake.image([fake.entry(SEV_ES_RESET_BLOCK, pack("<I", 1))], size=4096)).layout.ap_eip == 1
    )
