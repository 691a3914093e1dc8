"""Disk images with a partition table and a small FAT16 file system, written byte by byte."""

from __future__ import annotations

import zlib

from ovmf.gpt import EFI_SYSTEM

SECTOR = 512
_PER_CLUSTER, _CLUSTERS, _FAT_SECTORS, _ROOT = 1, 4200, 17, 512
FIRST = 64


def fat16(path: str, data: bytes) -> bytes:
    """A volume with one file; names of the path in capitals and at most 8.3."""
    *folders, name = path.split("/")
    fat = [0xFFF8, 0xFFFF] + [0] * _CLUSTERS
    clusters: list[bytes] = []

    def put(content: bytes) -> int:
        first = len(clusters) + 2
        pieces = [content[at : at + SECTOR] for at in range(0, len(content), SECTOR)] or [b""]
        clusters.extend(piece.ljust(SECTOR, b"\0") for piece in pieces)
        for index in range(len(pieces)):
            fat[first + index] = 0xFFFF if index == len(pieces) - 1 else first + index + 1
        return first

    def entry(called: str, attributes: int, cluster: int, size: int) -> bytes:
        stem, _, extension = called.partition(".")
        head = stem.ljust(8).encode() + extension.ljust(3).encode() + bytes([attributes])
        return head + bytes(14) + cluster.to_bytes(2, "little") + size.to_bytes(4, "little")

    table = entry(name, 0x20, put(data) if data else 0, len(data))
    for folder in reversed(folders):
        table = entry(folder, 0x10, put(table + bytes(32)), 0)
    total = 1 + 2 * _FAT_SECTORS + _ROOT * 32 // SECTOR + _CLUSTERS * _PER_CLUSTER
    boot = b"\xeb\x3c\x90MSDOS5.0" + SECTOR.to_bytes(2, "little") + bytes([_PER_CLUSTER]) + b"\1\0\2"
    boot += _ROOT.to_bytes(2, "little") + total.to_bytes(2, "little") + b"\xf8" + _FAT_SECTORS.to_bytes(2, "little")
    tables = b"".join(value.to_bytes(2, "little") for value in fat)[: _FAT_SECTORS * SECTOR]
    root = table.ljust(_ROOT * 32, b"\0")
    body = boot.ljust(SECTOR, b"\0") + 2 * tables.ljust(_FAT_SECTORS * SECTOR, b"\0") + root + b"".join(clusters)
    return body.ljust(total * SECTOR, b"\0")


def gpt_disk(volume: bytes, kind: bytes = EFI_SYSTEM, *, copies: int = 1) -> bytes:
    """A disk whose first partitions hold ``volume``; the backup table is left out, as nothing reads it."""
    sectors = len(volume) // SECTOR
    table = b""
    for index in range(copies):
        table += kind + bytes([index + 1]) * 16 + FIRST.to_bytes(8, "little")
        table += (FIRST + sectors - 1).to_bytes(8, "little") + bytes(8 + 72)
    table = table.ljust(128 * 128, b"\0")
    last = FIRST + sectors
    head = b"EFI PART\0\0\1\0\x5c\0\0\0"
    places = b"".join(lba.to_bytes(8, "little") for lba in (1, last, 34, last - 1)) + b"\x0d" * 16
    rest = bytes(4) + places + (2).to_bytes(8, "little") + (128).to_bytes(4, "little") * 2
    rest += zlib.crc32(table).to_bytes(4, "little")
    header = head + zlib.crc32(head + bytes(4) + rest).to_bytes(4, "little") + rest
    disk = bytes(SECTOR) + header.ljust(SECTOR, b"\0") + table
    return disk.ljust(FIRST * SECTOR, b"\0") + volume + bytes(SECTOR)
