"""Fuzz target: a disk image and a FAT file system are read, or refused."""

from __future__ import annotations

from ovmf.errors import DiskMalformed
from ovmf.fat import FatVolume
from ovmf.gpt import parse_gpt
from tests.fakes.disks import SECTOR, fat16, gpt_disk

_FIRST = gpt_disk(bytes(SECTOR))[:SECTOR]
_GOOD = fat16("EFI/BOOT/BOOTX64.EFI", b"application" * 100)


def one(data: bytes) -> None:
    """Feed one input: as a disk, as the sectors after a disk's first, and over the beginning of a good file system."""
    for disk in (data, _FIRST + data):
        try:
            parse_gpt(disk)
        except DiskMalformed:
            pass
    try:
        FatVolume(memoryview(data + _GOOD[len(data) :])).read("EFI/BOOT/BOOTX64.EFI")
    except DiskMalformed:
        return
