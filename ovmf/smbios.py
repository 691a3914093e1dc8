"""The SMBIOS event: the structure table with everything that differs from one start to the next taken out.

Firmware hashes all structures in order, each with its strings, after zeroing the fields below; the text of a string
field is overwritten with spaces and its number with zero. Types that hold nothing else keep their 4-byte header only.
Sources: edk2 ``MdeModulePkg/Universal/SmbiosMeasurementDxe``; DMTF DSP0134 3.7 for offsets; edk2
``OvmfPkg/SmbiosPlatformDxe`` for type 0, which it adds to QEMU's structures, and for the end mark.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from ovmf.errors import SmbiosMalformed
from policy.wire import ByteReader

_MAX_TABLE = 4 << 20
_END_OF_TABLE = 127
_BIOS_INFORMATION, _PROCESSOR = 0, 4
_PROCESSOR_ID = slice(8, 16)

# (offset, size, the byte is the number of a string)
_FILTER: dict[int, tuple[tuple[int, int, bool], ...]] = {
    1: ((0x07, 1, True), (0x08, 16, False), (0x18, 1, False)),  # serial number, UUID, wake-up type
    2: ((0x07, 1, True), (0x0A, 1, True)),  # serial number, location in chassis
    3: ((0x07, 1, True), (0x08, 1, True)),  # serial number, asset tag
    4: (
        (0x20, 1, True), (0x21, 1, True), (0x22, 1, True),  # serial number, asset tag, part number
        (0x23, 1, False), (0x24, 1, False), (0x25, 1, False),  # cores, enabled cores, threads
        (0x2A, 2, False), (0x2C, 2, False), (0x2E, 2, False),  # the same, 16 bits
        (0x11, 1, False), (0x16, 2, False),  # voltage, current speed
    ),
    17: ((0x18, 1, True), (0x19, 1, True), (0x1A, 1, True)),  # serial number, asset tag, part number
    22: ((0x07, 1, True), (0x10, 2, False), (0x12, 2, False)),  # battery: serial number, date
    23: ((0x06, 2, False),),  # reset count
    27: ((0x0C, 2, False),),  # cooling device: OEM-defined
    39: ((0x08, 1, True), (0x09, 1, True), (0x0A, 1, True)),  # power supply: serial number, asset tag, part number
}  # fmt: skip
_WHOLLY = (11, 15, 18, 31, 33)  # OEM strings, event log, memory errors, boot integrity


class Structure(NamedTuple):
    """One structure: ``formatted`` is header and fields, ``strings`` the string set with its final NULs."""

    type: int
    formatted: bytes
    strings: bytes


class BiosInformation(NamedTuple):
    """OVMF's type 0 structure: its 26 bytes of fields, and three texts of the firmware's build."""

    formatted: bytes
    vendor: str
    version: str
    date: str


def parse_structures(table: bytes) -> tuple[Structure, ...]:
    """The structures up to and including the end mark (type 127), or to the end of the bytes.

    Refused with :class:`SmbiosMalformed`: a structure shorter than its header, without its final NULs, bytes after the
    end mark.
    """
    if len(table) > _MAX_TABLE:
        raise SmbiosMalformed(f"SMBIOS table: got {len(table)} bytes, want at most {_MAX_TABLE}")
    found = []
    at = 0
    while at < len(table):
        reader = ByteReader(table[at : at + 4], "SMBIOS structure", error=SmbiosMalformed, base=at)
        kind, length = reader.u8("type"), reader.u8("length")
        end = table.find(b"\0\0", at + length)
        if length < 4 or end < 0:
            raise SmbiosMalformed(f"SMBIOS structure type {kind} at 0x{at:X}: length {length}, want an end")
        found.append(Structure(kind, table[at : at + length], table[at + length : end + 2]))
        at = end + 2
        if kind == _END_OF_TABLE:
            break
    if at < len(table):
        raise SmbiosMalformed(f"SMBIOS table: {len(table) - at} bytes follow the end mark at 0x{at:X}")
    return tuple(found)


def with_processor_id(table: bytes, processor_id: bytes) -> bytes:
    """``table`` with another processor ID (8 bytes: CPUID 1 EAX and EDX, little-endian) in every type 4 structure.

    It is measured, and QEMU takes it from the CPU model: of a TD, from its host.
    """
    if len(processor_id) != _PROCESSOR_ID.stop - _PROCESSOR_ID.start:
        raise ValueError(f"processor_id: {len(processor_id)} bytes")
    found = []
    for item in parse_structures(table):
        fields = bytearray(item.formatted)
        if item.type == _PROCESSOR and len(fields) >= _PROCESSOR_ID.stop:
            fields[_PROCESSOR_ID] = processor_id
        found.append(bytes(fields) + item.strings)
    return b"".join(found)


def measured_digest(structures: tuple[Structure, ...]) -> bytes:
    """SHA-384 (48 bytes) of the filtered structures, or :class:`SmbiosMalformed` for a number without a string."""
    return hashlib.sha384(b"".join(_filtered(item) for item in structures)).digest()


def with_firmware_structures(
    structures: tuple[Structure, ...], bios: BiosInformation | None
) -> tuple[Structure, ...] | None:
    """What OVMF publishes for QEMU's structures: its own type 0 after them, and the end mark.

    A table that already has a type 0 (QEMU's ``-smbios type=0``) gets none. ``None`` when one is needed and ``bios`` is
    unknown.
    """
    own = [item for item in structures if item.type != _END_OF_TABLE]
    if not any(item.type == _BIOS_INFORMATION for item in own):
        if bios is None:
            return None
        own.append(_type_0(bios))
    return (*own, Structure(_END_OF_TABLE, b"\x7f\x04\xff\xfe", b"\0\0"))


def _type_0(bios: BiosInformation) -> Structure:
    texts = b"".join(text.encode("latin-1", "replace") + b"\0" for text in (bios.vendor, bios.version, bios.date))
    return Structure(_BIOS_INFORMATION, bios.formatted, texts + b"\0")


_TEMPLATE = re.compile(rb"\x00\x1a\x00\x00\x01\x02.{2}\x03.{17}", re.DOTALL)
_DATE = re.compile("[0-9]{2}/[0-9]{2}/[0-9]{4}")
_TEXT = re.compile(rb"(?:[\x20-\x7e]\0){2,64}\0\0")


def bios_information(module: bytes) -> BiosInformation | None:
    """Type 0 as it stands in the PE image of OVMF's SmbiosPlatformDxe: a template of 26 bytes, then (as the compiler
    lays them out) the build's release date, version and vendor. ``None`` unless exactly that is found."""
    templates = list(_TEMPLATE.finditer(module))
    if len(templates) != 1:
        return None
    end = templates[0].end()
    texts = [match[0].decode("utf-16-le").rstrip("\0") for match in _TEXT.finditer(module, end, end + 512)]
    if len(texts) != 3 or not _DATE.fullmatch(texts[0]):
        return None
    date, version, vendor = texts
    return BiosInformation(templates[0][0], vendor, version, date)


def _filtered(item: Structure) -> bytes:
    if item.type in _WHOLLY:
        return item.formatted[:4] + bytes(len(item.formatted) + len(item.strings) - 4)
    fields, strings = bytearray(item.formatted), bytearray(item.strings)
    for offset, size, is_string in _FILTER.get(item.type, ()):
        if len(fields) < offset + size:
            continue
        if is_string and fields[offset]:
            _blank(strings, fields[offset], item.type)
        fields[offset : offset + size] = bytes(size)
    return bytes(fields + strings)


def _blank(strings: bytearray, number: int, kind: int) -> None:
    """Overwrite string ``number`` (from 1) with spaces."""
    start = 0
    for _ in range(number - 1):
        start = strings.index(b"\0", start) + 1 if start < len(strings) - 1 else len(strings)
    if start >= len(strings) - 1:
        raise SmbiosMalformed(f"SMBIOS structure type {kind}: string {number} does not exist")
    end = strings.index(b"\0", start)
    strings[start:end] = b" " * (end - start)
