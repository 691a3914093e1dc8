"""Disk images with a partition table and a small FAT16 file system, written byte by byte."""

from __future__ import annotations

import zlib

from ovmf.gpt import EFI_SYSTEM

SECTOR = 512
_CLUSTERS, _ROOT = 4200, 512
FIRST = 64


def fat16(path: str, data: bytes) -> bytes:
    """A volume with one file; names of the path in capitals and at most 8.3."""
    return fat16_of({path: data})


def fat16_of(files: dict[str, bytes], *, clusters: int = _CLUSTERS, per_cluster: int = 1) -> bytes:
    """A volume with these files: names in capitals and at most 8.3, room for ``clusters`` of ``per_cluster`` sectors."""
    fat = [0xFFF8, 0xFFFF] + [0] * clusters
    size, used = per_cluster * SECTOR, bytearray()

    def put(content: bytes) -> int:
        first, count = len(used) // size + 2, max(1, -(-len(content) // size))
        used.extend(content.ljust(count * size, b"\0"))
        fat[first : first + count] = [*range(first + 1, first + count), 0xFFFF]
        return first

    def entry(called: str, attributes: int, cluster: int, length: int) -> bytes:
        stem, _, extension = called.partition(".")
        head = stem.ljust(8).encode() + extension.ljust(3).encode() + bytes([attributes])
        return head + bytes(14) + cluster.to_bytes(2, "little") + length.to_bytes(4, "little")

    def folder(inside: dict[str, bytes]) -> bytes:
        table, below = b"", {}
        for name, data in inside.items():
            first, _, rest = name.partition("/")
            if rest:
                below.setdefault(first, {})[rest] = data
            else:
                table += entry(name, 0x20, put(data) if data else 0, len(data))
        return table + b"".join(entry(name, 0x10, put(folder(parts) + bytes(32)), 0) for name, parts in below.items())

    root = folder(files).ljust(_ROOT * 32, b"\0")
    fat_sectors = -(-2 * len(fat) // SECTOR)
    total = 1 + 2 * fat_sectors + _ROOT * 32 // SECTOR + clusters * per_cluster
    boot = b"\xeb\x3c\x90MSDOS5.0" + SECTOR.to_bytes(2, "little") + bytes([per_cluster]) + b"\1\0\2"
    boot += _ROOT.to_bytes(2, "little") + (total if total < 0x10000 else 0).to_bytes(2, "little") + b"\xf8"
    boot += fat_sectors.to_bytes(2, "little") + bytes(8) + total.to_bytes(4, "little")
    tables = b"".join(value.to_bytes(2, "little") for value in fat).ljust(fat_sectors * SECTOR, b"\0")
    return (boot.ljust(510, b"\0") + b"\x55\xaa" + 2 * tables + root + used).ljust(total * SECTOR, b"\0")


def gpt_disk(volume: bytes, kind: bytes = EFI_SYSTEM, *, copies: int = 1) -> bytes:
    """A disk whose first partitions hold ``volume``."""
    return gpt_of(*[(kind, volume)] * copies)


def gpt_of(*volumes: tuple[bytes, bytes]) -> bytes:
    """A disk with partitions of these types and contents; the backup table is left out, as nothing reads it."""
    table, at = b"", FIRST
    for index, (kind, volume) in enumerate(volumes):
        end = at + len(volume) // SECTOR
        table += kind + bytes([index + 1]) * 16 + at.to_bytes(8, "little")
        table += (end - 1).to_bytes(8, "little") + bytes(8 + 72)
        at = end
    table, last = table.ljust(128 * 128, b"\0"), at
    head = b"EFI PART\0\0\1\0\x5c\0\0\0"
    places = b"".join(lba.to_bytes(8, "little") for lba in (1, last, 34, last - 1)) + b"\x0d" * 16
    rest = bytes(4) + places + (2).to_bytes(8, "little") + (128).to_bytes(4, "little") * 2
    rest += zlib.crc32(table).to_bytes(4, "little")
    header = head + zlib.crc32(head + bytes(4) + rest).to_bytes(4, "little") + rest
    disk = _protective_record(last) + header.ljust(SECTOR, b"\0") + table
    return disk.ljust(FIRST * SECTOR, b"\0") + b"".join(volume for _, volume in volumes) + bytes(SECTOR)


def _protective_record(last: int) -> bytes:
    """The first sector: one partition of type 0xEE over the whole disk, without which firmware reads no table."""
    entry = b"\0\0\2\0\xee\xff\xff\xff" + (1).to_bytes(4, "little") + last.to_bytes(4, "little")
    return bytes(446) + entry + bytes(48) + b"\x55\xaa"
