"""GUID partition tables, read and as measured.

Sector 1 holds the header {``EFI PART``, revision u32, size u32, CRC32 u32, zero u32, own LBA u64, other LBA u64, first
and last usable LBA u64, disk GUID 16, table LBA u64, entries u32, entry size u32, CRC32 of the table u32}; an entry is
{type GUID 16, own GUID 16, first LBA u64, last LBA u64, attributes u64, name 72}. Measured is the header's 92 bytes,
the number of used entries u64, and those entries. Sources: UEFI specification 2.10, section 5.3; TCG *PC Client
Platform Firmware Profile*, section 10.2.5 (UEFI_GPT_DATA).
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

from ovmf.errors import DiskMalformed
from ovmf.guid import efi_guid
from policy.wire import ByteReader

SECTOR = 512
EFI_SYSTEM = efi_guid("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")

_HEADER = 92
_ENTRY = 128
_MAX_ENTRIES = 1024


class Partition(NamedTuple):
    """A used entry: ``start`` and ``size`` in bytes, GUIDs in EFI order, ``number`` of the entry from 1 on."""

    type: bytes
    guid: bytes
    start: int
    size: int
    number: int


class PartitionTable(NamedTuple):
    """The used partitions in table order, and the bytes firmware measures (UEFI_GPT_DATA)."""

    partitions: tuple[Partition, ...]
    measured: bytes


def parse_gpt(disk: bytes | memoryview) -> PartitionTable:
    """The primary table of a whole disk image with 512-byte sectors, or :class:`DiskMalformed`.

    Both checksums must be right: with a damaged primary table firmware falls back to the other one and repairs it.
    Without a protective master boot record it reads no such table at all.
    """
    view = memoryview(disk)
    _check_protective_record(bytes(view[:SECTOR]))
    raw = bytes(view[SECTOR : SECTOR + _HEADER])
    reader = ByteReader(raw, "GPT header", error=DiskMalformed, base=SECTOR)
    if reader.take(8, "signature") != b"EFI PART":
        raise reader.fail(f"signature at 0x{SECTOR:X}: want EFI PART")
    reader.skip(4, "revision")
    size, crc = reader.u32("size"), reader.u32("checksum")
    if size != _HEADER or zlib.crc32(raw[:16] + bytes(4) + raw[20:]) != crc:
        raise reader.fail(f"size {size} with checksum {crc:08x}: want {_HEADER} with the right one")
    reader.skip(4 + 4 * 8 + 16, "places and disk GUID")
    lba, count, entry_size, table_crc = (
        reader.u64("table LBA"), reader.u32("entries"), reader.u32("entry size"), reader.u32("table checksum"),
    )  # fmt: skip
    if not 1 <= count <= _MAX_ENTRIES or entry_size != _ENTRY or not 2 <= lba <= len(view) // SECTOR:
        raise reader.fail(f"{count} entries of {entry_size} bytes at LBA {lba}: want 1..{_MAX_ENTRIES} of {_ENTRY}")
    table = bytes(view[lba * SECTOR : lba * SECTOR + count * _ENTRY])
    if len(table) != count * _ENTRY or zlib.crc32(table) != table_crc:
        raise reader.fail(f"table checksum: got {table_crc:08x}, want {zlib.crc32(table):08x}")
    entries = ((number, table[(number - 1) * _ENTRY : number * _ENTRY]) for number in range(1, count + 1))
    used = [(number, entry) for number, entry in entries if any(entry[:16])]
    partitions = tuple(_partition(entry, number, len(view)) for number, entry in used)
    return PartitionTable(partitions, raw + len(used).to_bytes(8, "little") + b"".join(entry for _, entry in used))


def _check_protective_record(sector: bytes) -> None:
    """Four entries {boot indicator u8, first CHS 3, type u8, last CHS 3, first LBA u32, sectors u32} at 446, then 55AA.

    One must be of type 0xEE, not bootable, from LBA 1. Source: UEFI specification 2.10, section 5.2.3.
    """
    entries = (sector[at : at + 16] for at in range(446, 510, 16))
    protective = any(entry[:1] == b"\0" and entry[4:5] == b"\xee" and entry[8:12] == b"\1\0\0\0" for entry in entries)
    if sector[510:] != b"\x55\xaa" or not protective:
        raise DiskMalformed(
            "disk: no protective master boot record in the first sector: want one entry 0xEE from LBA 1"
        )


def _partition(entry: bytes, number: int, size: int) -> Partition:
    reader = ByteReader(entry, "GPT entry", error=DiskMalformed)
    kind, guid = reader.take(16, "type"), reader.take(16, "GUID")
    first, last = reader.u64("first LBA"), reader.u64("last LBA")
    if not 2 <= first <= last < size // SECTOR:
        raise reader.fail(f"LBA {first}..{last}: want them within {size // SECTOR} sectors")
    return Partition(kind, guid, first * SECTOR, (last - first + 1) * SECTOR, number)
