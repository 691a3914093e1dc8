"""Fuzz target: what a shim carries (vendor, revocation levels, sections by long names) is read, or named as unknown."""

from __future__ import annotations

from ovmf.errors import PeMalformed
from ovmf.fat import FatVolume
from ovmf.gpt import parse_gpt
from ovmf.grub import LoaderUnknown
from ovmf.grub_disk import GrubDisk
from ovmf.shim import shim_events
from tests.fakes.disks import fat16, gpt_disk

_IMAGE = fat16("A", b"nothing to start")
_VOLUME = FatVolume(memoryview(_IMAGE))
_DISK = GrubDisk(gpt_disk(_IMAGE), parse_gpt(gpt_disk(_IMAGE)))


def one(data: bytes) -> None:
    """Feed one input; without a GRUB on the volume no image gets further than the shim itself."""
    try:
        shim_events(data, _VOLUME, _DISK, secure=True)
    except (PeMalformed, LoaderUnknown):
        return
    raise AssertionError("a shim started a GRUB that is not there")
