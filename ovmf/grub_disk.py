"""The disk as GRUB sees it: partitions by GRUB's names, file systems by their UUIDs, files by path."""

from __future__ import annotations

from functools import cached_property

from ovmf.errors import DiskMalformed
from ovmf.ext4 import Ext4Unsupported, Ext4Volume
from ovmf.fat import FatVolume
from ovmf.gpt import EFI_SYSTEM, PartitionTable
from ovmf.td_events import printable

Volume = FatVolume | Ext4Volume


class PathUnknown(Exception):
    """A path to a device that is not read here, or of another form."""


class GrubDisk:
    """A whole image with its table; GRUB calls it ``hd0``, as it is the one it was started from."""

    def __init__(self, image: bytes | memoryview, table: PartitionTable) -> None:
        self._image = memoryview(image)
        self._table = table

    @cached_property
    def volumes(self) -> dict[str, Volume]:
        """The file systems that can be read, by GRUB's device."""
        return dict(self._found())

    @cached_property
    def system(self) -> str:
        """The device of the EFI system partition."""
        return next(_device(item.number) for item in self._table.partitions if item.type == EFI_SYSTEM)

    def with_uuid(self, uuid: str) -> str | None:
        """The device whose ext4 file system has this UUID; ``None`` unless there is exactly one."""
        found = [
            device
            for device, volume in self.volumes.items()
            if isinstance(volume, Ext4Volume) and volume.uuid == uuid.lower()
        ]
        return found[0] if len(found) == 1 else None

    def read(self, path: str, root: str) -> bytes | None:
        """The file at ``(device)/path``, or at a path on the device ``root``; ``None`` when there is none."""
        volume, inside = self._place(path, root)
        return volume.read(inside)

    def holds(self, path: str, root: str) -> bool:
        """A file or folder has this path."""
        volume, inside = self._place(path, root)
        return volume.holds(inside)

    def _place(self, path: str, root: str) -> tuple[Volume, str]:
        device, closed, inside = path[1:].partition(")") if path.startswith("(") else (root, ")", path)
        if not closed or not inside.startswith("/") or device not in self.volumes:
            raise PathUnknown(f"the file {printable(path[:80])!r}")
        return self.volumes[device], inside

    def _found(self) -> list[tuple[str, Volume]]:
        found: list[tuple[str, Volume]] = []
        for item in self._table.partitions:
            data = self._image[item.start : item.start + item.size]
            if item.type == EFI_SYSTEM:
                found.append((_device(item.number), FatVolume(data)))
                continue
            try:
                found.append((_device(item.number), Ext4Volume(data)))
            except (DiskMalformed, Ext4Unsupported):  # some other file system, or none: GRUB does not boot from it
                continue
        return found


def _device(number: int) -> str:
    return f"hd0,gpt{number}"
