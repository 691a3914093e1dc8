"""A boot from a disk image: partition table and boot application, and by name what nobody can predict from outside.

Firmware measures the partition table of the disk it boots from (GPT), then the application it starts from the EFI
system partition; both go to RTMR1. A kernel with EFI stub that is that application has no load options and no initrd
of the firmware's; for a unified kernel image see `ovmf.uki`, for a shim and the GRUB behind it `ovmf.shim`. What other
boot loaders measure and start is named as unpredicted.
"""

from __future__ import annotations

from typing import NamedTuple

from ovmf import td_events as make
from ovmf.errors import DiskMalformed
from ovmf.fat import FatVolume
from ovmf.gpt import EFI_SYSTEM, PartitionTable, parse_gpt
from ovmf.grub import LoaderUnknown
from ovmf.grub_disk import GrubDisk
from ovmf.shim import shim_events
from ovmf.td_boot import BootEvents, exit_events, unknown_loader
from ovmf.td_kernel import kernel_release
from ovmf.td_layout import TdLayout
from ovmf.uki import uki_events
from policy.measured import MeasuredEvent

DEFAULT_PATH = "EFI/BOOT/BOOTX64.EFI"
"""What firmware starts from a disk it has no boot option for."""
_EXTRAS = ("loader/credentials", "loader/addons")
"""Folders whose files systemd's stub takes in, and measures."""
_VARIABLES = "NvVars"
"""Where firmware that is not in flash keeps its variables, if a disk lets it."""


class DiskBoot(NamedTuple):
    """A disk image with 512-byte sectors, and the path of the application in its only EFI system partition.

    ``exit_failures``: how often ending boot services fails before it succeeds, which depends on the firmware's drivers;
    ``None``: not known.
    """

    image: bytes | memoryview
    path: str = DEFAULT_PATH
    exit_failures: int | None = None

    def events(self, build: TdLayout, flavour: str, *, secure: bool = False) -> BootEvents:
        """GPT and application. Raises `ovmf.errors.DiskMalformed` and `ovmf.errors.PeMalformed`."""
        del build  # changes nothing of this part
        table, volume, application = self.contents()
        gpt = make.event(1, make.GPT, table.measured, "gpt", f"{len(table.partitions)} partitions")
        inside = _inside(application, flavour, volume, GrubDisk(self.image, table), self.path, secure=secure)
        extras = [folder for folder in (f"{self.path}.extra.d", *_EXTRAS) if volume.holds(folder)]
        unpredicted = [*inside.unpredicted, *(f"RTMR2: what is in the folder {folder}" for folder in extras)]
        if volume.holds(_VARIABLES):
            unpredicted.append(f"RTMR0: variables of an earlier boot, in the file {_VARIABLES} on the disk")
        if self.exit_failures is None:
            unpredicted.append("RTMR1: how often ending boot services fails before it succeeds")
        ending = () if self.exit_failures is None else exit_events(self.exit_failures)
        after = (gpt, make.application(application, self.path), *inside.events)
        return BootEvents((), after, ending, tuple(unpredicted), True, application, inside.unified, inside.smbios)

    def contents(self) -> tuple[PartitionTable, FatVolume, bytes]:
        """Partition table, EFI system partition and the application on it. Raises `ovmf.errors.DiskMalformed`."""
        table = parse_gpt(self.image)
        system = [partition for partition in table.partitions if partition.type == EFI_SYSTEM]
        if len(system) != 1:
            raise DiskMalformed(f"disk: {len(system)} EFI system partitions, want one")
        [esp] = system
        volume = FatVolume(memoryview(self.image)[esp.start : esp.start + esp.size])
        application = volume.read(self.path)
        if application is None:
            raise DiskMalformed(f"disk: {self.path} is not in the EFI system partition")
        return table, volume, application


class _Inside(NamedTuple):
    """What happens after the application was started, and what of it cannot be known; the rest as in `BootEvents`."""

    events: tuple[MeasuredEvent, ...] = ()
    unpredicted: tuple[str, ...] = ()
    unified: bool = False
    smbios: bool = False


def _inside(application: bytes, flavour: str, volume: FatVolume, disk: GrubDisk, path: str, *, secure: bool) -> _Inside:
    if kernel_release(application) is not None:  # its own EFI stub measures load options and initrd, and has neither
        return _Inside()
    image = uki_events(application, flavour)
    if image is not None:
        return _Inside(image.inside, image.unpredicted, unified=True, smbios=image.smbios)
    if path.casefold() != DEFAULT_PATH.casefold():
        return _Inside(unpredicted=unknown_loader(f"started as {path}"))
    try:
        return _Inside(tuple(shim_events(application, volume, disk, secure=secure)))
    except LoaderUnknown as reason:
        return _Inside(unpredicted=unknown_loader(str(reason)))
