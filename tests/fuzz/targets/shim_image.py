"""Fuzz target: what a shim carries (vendor, revocation levels, sections by long names) is read, or named as unknown."""

from __future__ import annotations

from ovmf.errors import PeMalformed
from ovmf.fat import FatVolume
from ovmf.shim import LoaderUnknown, shim_events
from tests.fakes.disks import fat16

_VOLUME = FatVolume(memoryview(fat16("A", b"nothing to start")))


def one(data: bytes) -> None:
    """Feed one input; without a GRUB on the volume no image gets further than the shim itself."""
    try:
        shim_events(data, _VOLUME)
    except (PeMalformed, LoaderUnknown):
        return
    raise AssertionError("a shim started a GRUB that is not there")
