"""The SEV metadata of an OVMF image: which memory the VMM prepares and measures besides the image itself.

``ASEV``, size u32, version u32 (1), count u32, then per section {gpa u32, size u32, type u32}, all little-endian. Their
**order in the file is the order of measurement**. Source: edk2 ``OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm``.
"""

from __future__ import annotations

from ovmf.errors import FirmwareMalformed
from policy.wire import ByteReader

SEC_MEM = 1
SECRETS = 2
CPUID = 3
SVSM_CAA = 4
KERNEL_HASHES = 0x10

PAGE = 4096
FOUR_GIB = 1 << 32

NAMES = {
    SEC_MEM: "SNP_SEC_MEM",
    SECRETS: "SNP_SECRETS",
    CPUID: "CPUID",
    SVSM_CAA: "SVSM_CAA",
    KERNEL_HASHES: "SNP_KERNEL_HASHES",
}
"""Section types in words."""
_ONE_PAGE = (SECRETS, CPUID, KERNEL_HASHES)
_MAX_SECTIONS = 256
_MAX_MEMORY = 64 << 20
"""Far above any real firmware (below 1 MiB); keeps a hostile image from costing a million page hashes."""

SectionTuple = tuple[int, int, int]
"""(guest physical address, size in bytes, type): what `policy.reference.Section` is, without its import cost."""


def parse_sections(firmware: bytes, offset_from_end: int, end: int = FOUR_GIB) -> tuple[SectionTuple, ...]:
    """The sections in file order, checked by :func:`check_sections`, or :class:`FirmwareMalformed`.

    ``offset_from_end`` comes from the footer table; the image lies just below guest physical address ``end``.
    ``size`` may exceed what ``count`` needs; it may not fall short.
    """
    start = len(firmware) - offset_from_end
    if start < 0:
        raise FirmwareMalformed(
            f"firmware: SEV metadata: offset 0x{offset_from_end:X} from the end of {len(firmware)} bytes is outside"
        )
    reader = ByteReader(firmware[start:], "firmware: SEV metadata", error=FirmwareMalformed, base=start)
    signature = reader.take(4, "signature")
    if signature != b"ASEV":
        raise reader.fail(f"signature at 0x{start:X}: got {signature.hex()}, want 41534556 (ASEV)")
    size, version, count = reader.u32("size"), reader.u32("version"), reader.u32("count")
    if version != 1:
        raise reader.fail(f"version: got {version}, want 1")
    if size > offset_from_end:
        raise reader.fail(f"size: got {size}, want at most the {offset_from_end} bytes to the end of the image")
    if count > _MAX_SECTIONS or 16 + 12 * count > size:
        raise reader.fail(f"count: got {count} sections, more than its size of {size} bytes (or {_MAX_SECTIONS}) holds")
    sections = tuple((reader.u32("gpa"), reader.u32("size"), reader.u32("type")) for _ in range(count))
    check_sections(sections, end - len(firmware))
    return sections


def check_sections(sections: tuple[SectionTuple, ...], limit: int = FOUR_GIB) -> None:
    """Raise :class:`FirmwareMalformed` unless every section is of a known type and none is ambiguous.

    A section must be page-aligned, not empty, end at or below ``limit`` (where the image begins) and overlap no other;
    those that hold one page of data must be one page long.
    """
    for gpa, size, kind in sections:
        name = NAMES.get(kind)
        where = f"firmware: SEV metadata: section {name or 'of unknown kind'} at 0x{gpa:X}"
        if name is None:
            raise FirmwareMalformed(f"{where}: type got 0x{kind:X}, want 1, 2, 3, 4 or 0x10")
        if gpa % PAGE or size % PAGE or size == 0:
            raise FirmwareMalformed(f"{where}: size 0x{size:X}: want whole 4 KiB pages, at least one")
        if kind in _ONE_PAGE and size != PAGE:
            raise FirmwareMalformed(f"{where}: size got 0x{size:X}, want 0x1000")
        if gpa + size > limit:
            raise FirmwareMalformed(f"{where}: ends at 0x{gpa + size:X}, want at most 0x{limit:X}")
    if sum(size for _, size, _ in sections) > _MAX_MEMORY:
        raise FirmwareMalformed("firmware: SEV metadata: sections cover more than 64 MiB")
    reached = 0
    for gpa, size, _ in sorted(sections):
        if gpa < reached:
            raise FirmwareMalformed(f"firmware: SEV metadata: sections overlap at 0x{gpa:X}")
        reached = gpa + size
