"""The TDVF descriptor of a firmware image: which memory a TD starts with, and which of it MRTD covers.

The footer table holds the descriptor's distance from the end of the image. There: ``TDVF``, length u32, version u32
(1), count u32, then per section {data offset u32, raw size u32, memory address u64, memory size u64, type u32,
attributes u32}, all little-endian; the 16 bytes before are a GUID. Sections stand in the order they are measured in.
Sources: Intel, *TDX Virtual Firmware Design Guide* (344991), section 11; edk2
``OvmfPkg/ResetVector/X64/IntelTdxMetadata.asm``.
"""

from __future__ import annotations

from typing import NamedTuple

from ovmf.errors import FirmwareMalformed
from ovmf.guid import efi_guid, guid_text
from policy.wire import ByteReader

BFV, CFV, TD_HOB, TEMP_MEM, PERM_MEM, PAYLOAD, PAYLOAD_PARAM, TD_INFO, TD_PARAMS = range(9)
NAMES = ("BFV", "CFV", "TD_HOB", "TEMP_MEM", "PERM_MEM", "PAYLOAD", "PAYLOAD_PARAM", "TD_INFO", "TD_PARAMS")
"""Section types in words, by number."""
MR_EXTEND, PAGE_AUG = 1, 2
"""Attributes: contents are measured; pages are not added at build time."""

PAGE = 4096
DESCRIPTOR = efi_guid("e9eaf9f3-168e-44d5-a8eb-7f4d8738f6ae")

_MAX_SECTIONS = 64
_MAX_ADDED = 64 << 20
"""Far above any real firmware; keeps a hostile image from costing seconds."""
_TOP = 1 << 52
"""One more than the highest guest physical address."""


class TdSection(NamedTuple):
    """One section: where its data lies in the image, where it goes in guest physical memory (bytes), its type and
    attributes. Memory past the raw data is zero."""

    data_offset: int
    raw_size: int
    address: int
    size: int
    type: int
    attributes: int

    @property
    def name(self) -> str:
        """The type in words."""
        return NAMES[self.type]

    @property
    def extended(self) -> bool:
        """The contents are measured into MRTD, not only the addresses."""
        return bool(self.attributes & MR_EXTEND)

    @property
    def added(self) -> bool:
        """Pages are added, and their addresses measured, before the TD starts."""
        return not self.attributes & PAGE_AUG


def parse_td_sections(firmware: bytes, offset_from_end: int) -> tuple[TdSection, ...]:
    """The sections in file order, or :class:`FirmwareMalformed`; ``offset_from_end`` comes from the footer table.

    Refused: a descriptor outside the image, without its GUID, of another version, with more sections than its length
    holds; and a section of unknown type or attributes, whose data is outside the image or larger than its memory, that
    is not made of whole pages, or overlaps another. A boot firmware volume must be measured, one must exist, and there
    is at most one TD HOB, which has no data.
    """
    start = len(firmware) - offset_from_end
    if start < len(DESCRIPTOR) or offset_from_end <= 0:
        raise FirmwareMalformed(
            f"firmware: TDVF descriptor: offset 0x{offset_from_end:X} from the end of {len(firmware)} bytes is outside"
        )
    reader = ByteReader(firmware[start - 16 :], "firmware: TDVF descriptor", error=FirmwareMalformed, base=start - 16)
    guid, signature = reader.take(16, "GUID"), reader.take(4, "signature")
    if guid != DESCRIPTOR:
        raise reader.fail(f"GUID at 0x{start - 16:X}: got {guid_text(guid)}, want {guid_text(DESCRIPTOR)}")
    if signature != b"TDVF":
        raise reader.fail(f"signature at 0x{start:X}: got {signature.hex()}, want 54445646 (TDVF)")
    length, version, count = reader.u32("length"), reader.u32("version"), reader.u32("count")
    if version != 1:
        raise reader.fail(f"version: got {version}, want 1")
    if length > offset_from_end:
        raise reader.fail(f"length: got {length}, want at most the {offset_from_end} bytes to the end of the image")
    if count > _MAX_SECTIONS or 16 + 32 * count > length:
        raise reader.fail(f"count: got {count} sections, more than its length of {length} bytes (or {_MAX_SECTIONS})")
    sections = tuple(_section(reader) for _ in range(count))
    check_td_sections(sections, len(firmware))
    return sections


def _section(reader: ByteReader) -> TdSection:
    return TdSection(
        data_offset=reader.u32("data offset"),
        raw_size=reader.u32("raw size"),
        address=reader.u64("memory address"),
        size=reader.u64("memory size"),
        type=reader.u32("type"),
        attributes=reader.u32("attributes"),
    )


def check_td_sections(sections: tuple[TdSection, ...], image_size: int) -> None:
    """Raise :class:`FirmwareMalformed` unless the sections obey the rules of :func:`parse_td_sections`."""
    for section in sections:
        problem = _problem(section, image_size)
        if problem:
            name = section.name if section.type < len(NAMES) else "of unknown type"
            raise FirmwareMalformed(f"firmware: TDVF section {name} at 0x{section.address:X}: {problem}")
    for kind, least, most in ((BFV, 1, _MAX_SECTIONS), (TD_HOB, 0, 1)):
        count = sum(section.type == kind for section in sections)
        if not least <= count <= most:
            raise FirmwareMalformed(f"firmware: TDVF descriptor: {count} sections {NAMES[kind]}, want {least}..{most}")
    if sum(section.size for section in sections if section.added) > _MAX_ADDED:
        raise FirmwareMalformed(f"firmware: TDVF descriptor: sections add more than {_MAX_ADDED >> 20} MiB")
    reached = 0
    for section in sorted(sections, key=lambda item: item.address):
        if section.address < reached:
            raise FirmwareMalformed(f"firmware: TDVF descriptor: sections overlap at 0x{section.address:X}")
        reached = section.address + section.size


def _problem(section: TdSection, image_size: int) -> str | None:
    """What is wrong with one section, or ``None``."""
    end = section.data_offset + section.raw_size
    rules = (
        (section.type < len(NAMES), f"type: got {section.type}, want 0..{len(NAMES) - 1}"),
        (section.attributes in (0, MR_EXTEND, PAGE_AUG), f"attributes: got 0x{section.attributes:X}, want 0, 1 or 2"),
        (section.raw_size == 0 or end <= image_size, f"data ends at 0x{end:X}, want at most 0x{image_size:X}"),
        (section.raw_size <= section.size, f"raw size 0x{section.raw_size:X} exceeds its memory of 0x{section.size:X}"),
        (section.size > 0, "memory size: got 0"),
        (section.address % PAGE == 0 and section.size % PAGE == 0, f"size 0x{section.size:X}: want whole 4 KiB pages"),
        (section.address + section.size <= _TOP, "ends beyond guest physical memory"),
        (section.type != BFV or section.attributes == MR_EXTEND, "want its contents measured (attribute 1)"),
        (section.type != TD_HOB or section.raw_size == 0, f"raw size 0x{section.raw_size:X}, want none"),
        (section.added or section.raw_size == 0, "has data, but its pages are not added"),
    )
    return next((text for good, text in rules if not good), None)
