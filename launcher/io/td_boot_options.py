"""The boot options of a VM that boots from a disk: made for its devices, or read from a copy of a guest's variables.

What firmware makes by itself was seen for machines with nothing but virtio disks and network interfaces, and with a TPM
in a TD's place; a TD's are taken from its own variables only.
"""

from __future__ import annotations

import os

from launcher.core.network import VIRTIO
from launcher.core.spec import VmSpec
from launcher.io.hashing import read_file
from launcher.io.machine_probe import ShownMachine
from launcher.io.measurement import MeasurementImpossible
from ovmf.boot_options import BootOption, found_options
from ovmf.td_layout import TdLayout
from policy.vocab import Platform

_VIRTIO_INTERFACE, _VIRTIO_DISK = 0x10411AF4, 0x10421AF4
_GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
_ATTRIBUTES = 4
_MOST_OPTIONS, _MOST_BYTES = 64, 1 << 16


def made_by_firmware(spec: VmSpec, layout: TdLayout, shown: ShownMachine) -> tuple[BootOption, ...] | None:
    """The options of a VM that has not started, ``None`` where they are not known."""
    plain = spec.platform is Platform.EMULATED_TDX and all(disk.bus == "virtio" for disk in spec.disks)
    if not plain or len(layout.boot_options) != 2 or not _known_interface(spec):
        return None
    disks = [slot for slot, identity in shown.pci if identity == _VIRTIO_DISK]
    mac = bytes.fromhex("" if spec.net is None else (spec.net.mac or "").replace(":", ""))
    interfaces = [(slot, mac) for slot, identity in shown.pci if identity == _VIRTIO_INTERFACE]
    return found_options(layout.boot_options, layout.shell, disks, interfaces)


def _known_interface(spec: VmSpec) -> bool:
    return spec.net is None or (spec.net.model == VIRTIO and spec.net.mac is not None)


def read_variables(folder: str) -> tuple[BootOption, ...]:
    """Options in the order of BootOrder, from files as in a guest's ``/sys/firmware/efi/efivars``.

    Raises `launcher.io.hashing.FileUnreadable` and :class:`MeasurementImpossible`.
    """
    order = _variable(folder, "BootOrder")
    numbers = [int.from_bytes(order[at : at + 2], "little") for at in range(0, len(order), 2)]
    if len(order) % 2 or not 0 < len(numbers) <= _MOST_OPTIONS or len(set(numbers)) != len(numbers):
        raise MeasurementImpossible(
            f"boot variables: BootOrder of {len(order)} bytes: want 1..{_MOST_OPTIONS} different numbers of 2 bytes"
        )
    return tuple(BootOption(number, _variable(folder, f"Boot{number:04X}")) for number in numbers)


def _variable(folder: str, name: str) -> bytes:
    """The contents behind the attributes Linux puts before them."""
    data = read_file(os.path.join(folder, f"{name}-{_GLOBAL}"), "boot variables", _MOST_BYTES)
    if len(data) <= _ATTRIBUTES:
        raise MeasurementImpossible(f"boot variables: {name}: got {len(data)} bytes, want attributes and contents")
    return data[_ATTRIBUTES:]
