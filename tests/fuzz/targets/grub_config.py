"""Fuzz target: a configuration of GRUB boots a kernel, or what is unknown of it is named."""

from __future__ import annotations

from ovmf.gpt import parse_gpt
from ovmf.grub import LoaderUnknown, grub_events
from ovmf.grub_disk import GrubDisk
from tests.fakes.disks import fat16_of, gpt_disk
from tests.unit.ovmf.test_pe import small_pe

_DISK = gpt_disk(fat16_of({"VMLINUZ": small_pe(), "INITRD": b"init", "GRUBENV": b"# GRUB Environment Block\n###"}))
_TABLE = parse_gpt(_DISK)


def _checked(image: bytes, path: str) -> None:
    if not image or not path.startswith("/"):
        raise AssertionError(path)


def one(data: bytes) -> None:
    """Feed one input, as what the firmware's GRUB finds first."""
    try:
        found = grub_events(data, "GRUB.CFG", GrubDisk(_DISK, _TABLE), _checked)
    except LoaderUnknown:
        return
    if found[-1].name not in ("load-options", "initrd"):
        raise AssertionError("a boot without a kernel")
