"""A disk with a GUID partition table and one EFI system partition (FAT16) that holds one file.

Everything that tools choose at random or from the clock is fixed: volume and partition ids come from the contents,
times are zero. Sources: UEFI specification 2.10, sections 5.3 and 13.3; Microsoft, *FAT: General Overview of On-Disk
Format*.
"""

from __future__ import annotations

import zlib
from hashlib import sha256
from typing import Final

from launcher.image.errors import ImageError
from ovmf.gpt import EFI_SYSTEM

SECTOR: Final = 512
_ROOT_ENTRIES: Final = 512
_LEAST, _MOST = 4085, 65524
"""Clusters of a FAT16 volume: with fewer it would be FAT12, with more FAT32."""
_PER_CLUSTER: Final = (4, 8, 16, 32, 64)
_FIRST: Final = 2048
"""The partition begins at 1 MiB, as partitioning tools have it."""
_ENTRIES: Final = 128 * 128


def boot_disk(path: str, data: bytes) -> bytes:
    """The disk, with ``data`` as the file ``path`` (upper-case names of at most 8.3, slashes between). Raises
    ImageError where it is too large (about 2 GiB).
    """
    ids = sha256(data).digest()
    volume = _volume(path.split("/"), data, ids[:4])
    last = _FIRST + len(volume) // SECTOR - 1
    sectors = last + 1 + _ENTRIES // SECTOR + 1
    entries = EFI_SYSTEM + ids[:16] + _number(_FIRST, 8) + _number(last, 8) + bytes(8 + 72)
    table = entries.ljust(_ENTRIES, b"\0")
    head = _protective(sectors) + _header(table, ids[16:32], 1, sectors - 1, 2, last)
    tail = table + _header(table, ids[16:32], sectors - 1, 1, last + 1, last)
    return (head + table).ljust(_FIRST * SECTOR, b"\0") + volume + tail


def _header(table: bytes, disk: bytes, own: int, other: int, entries: int, last: int) -> bytes:
    """One of the two GPT headers, a sector long."""
    places = b"".join(_number(lba, 8) for lba in (own, other, 2 + _ENTRIES // SECTOR, last)) + disk
    rest = bytes(4) + places + _number(entries, 8) + _number(128, 4) * 2 + _number(zlib.crc32(table), 4)
    head = b"EFI PART\0\0\1\0\x5c\0\0\0"
    return (head + _number(zlib.crc32(head + bytes(4) + rest), 4) + rest).ljust(SECTOR, b"\0")


def _protective(sectors: int) -> bytes:
    """The first sector: one partition of type 0xEE over the whole disk."""
    entry = b"\0\0\2\0\xee\xff\xff\xff" + _number(1, 4) + _number(min(sectors - 1, 0xFFFFFFFF), 4)
    return bytes(446) + entry + bytes(48) + b"\x55\xaa"


def _volume(names: list[str], data: bytes, serial: bytes) -> bytes:
    """FAT16 with the folders of ``names`` and the file, each folder one cluster."""
    per_cluster, clusters = _geometry(len(data), len(names) - 1)
    size = per_cluster * SECTOR
    file = 2 + len(names) - 1
    fat = [0xFFF8, 0xFFFF, *[0xFFFF] * (len(names) - 1), *_chain(file, -(-len(data) // size))]
    folders = [_entry(name, 0x10, 2 + depth, 0) for depth, name in enumerate(names[:-1])]
    folders.append(_entry(names[-1], 0x20, file, len(data)))
    root = folders[0].ljust(_ROOT_ENTRIES * 32, b"\0")
    inside = b"".join(_folder(depth, entry).ljust(size, b"\0") for depth, entry in enumerate(folders[1:]))
    fat_sectors = -(-2 * (clusters + 2) // SECTOR)
    total = 1 + 2 * fat_sectors + len(root) // SECTOR + clusters * per_cluster
    table = b"".join(_number(value, 2) for value in fat).ljust(fat_sectors * SECTOR, b"\0")
    start = _boot_sector(per_cluster, fat_sectors, total, serial) + 2 * table + root
    return (start + inside + data).ljust(total * SECTOR, b"\0")


def _geometry(length: int, folders: int) -> tuple[int, int]:
    """(sectors in a cluster, clusters) with room for the file and its folders."""
    for per_cluster in _PER_CLUSTER:
        clusters = folders + -(-length // (per_cluster * SECTOR))
        if clusters <= _MOST:
            return per_cluster, max(clusters, _LEAST)
    raise ImageError(f"boot disk: {length} bytes do not fit into FAT16, want less than 2 GiB")


def _chain(first: int, count: int) -> list[int]:
    return [*range(first + 1, first + count), 0xFFFF]


def _folder(depth: int, entry: bytes) -> bytes:
    """The folder at cluster 2 + ``depth``: itself, the one above, and what is in it."""
    above = 0 if depth == 0 else 1 + depth
    return _entry(".", 0x10, 2 + depth, 0) + _entry("..", 0x10, above, 0) + entry


def _entry(name: str, attributes: int, cluster: int, length: int) -> bytes:
    stem, _, extension = ("", "", "") if name in (".", "..") else name.partition(".")
    head = name.ljust(11).encode() if not stem else stem.ljust(8).encode() + extension.ljust(3).encode()
    return head + bytes([attributes]) + bytes(14) + _number(cluster, 2) + _number(length, 4)


def _boot_sector(per_cluster: int, fat_sectors: int, total: int, serial: bytes) -> bytes:
    small = total if total < 0x10000 else 0
    head = (
        b"\xeb\x3c\x90cvm     " + _number(SECTOR, 2) + _number(per_cluster, 1) + b"\1\0\2" + _number(_ROOT_ENTRIES, 2)
    )
    head += _number(small, 2) + b"\xf8" + _number(fat_sectors, 2) + bytes(4) + _number(_FIRST, 4)
    head += _number(0 if small else total, 4) + b"\x80\0\x29" + serial + b"CVM BOOT   FAT16   "
    return head.ljust(510, b"\0") + b"\x55\xaa"


def _number(value: int, length: int) -> bytes:
    return value.to_bytes(length, "little")
