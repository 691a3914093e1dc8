"""Boot options: their form, and those OVMF makes by itself for virtio disks and network interfaces.

Firmware with an empty variable store gives the disks one option each, in the order of their slots, then PXE and HTTP
over IPv4 and IPv6 to each network interface, then its shell; the numbers follow its own options. Sources: UEFI
specification 2.10, sections 3.1.3, 10.3 (EFI_LOAD_OPTION, device paths); edk2 ``UefiBootManagerLib`` (``BmBoot.c``,
``BmBootDescription.c``). Confirmed by logs of boots with OVMF 2026.08 without Secure Boot keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ovmf.guid import efi_guid

ACTIVE, APPLICATION = 0x001, 0x100
_PCI_ROOT = bytes.fromhex("02010c00d041030a00000000")
_IPV4 = b"\x03\x0c\x1b\0" + bytes(23)
_IPV6 = b"\x03\x0d\x3c\0" + bytes(39) + b"\x40" + bytes(16)
_NO_URI = b"\x03\x18\x04\0"
_END = b"\x7f\xff\x04\0"
_MADE_BY_FIRMWARE = efi_guid("8108ac4e-9f11-4d59-850e-e21a522c59b2")
_NETWORK = (("PXEv4", _IPV4), ("PXEv6", _IPV6), ("HTTPv4", _IPV4 + _NO_URI), ("HTTPv6", _IPV6 + _NO_URI))


class BootOption(NamedTuple):
    """A Boot#### variable: its number and whole contents."""

    number: int
    data: bytes


def load_option(description: str, path: bytes, *, attributes: int = ACTIVE, mark: bytes = b"") -> bytes:
    """EFI_LOAD_OPTION {attributes u32, path length u16, description UTF-16 with NUL, path, optional data}.

    ``path``: device path nodes without the end.
    """
    whole = path + _END
    head = attributes.to_bytes(4, "little") + len(whole).to_bytes(2, "little")
    return head + description.encode("utf-16-le") + b"\0\0" + whole + mark


def found_options(
    own: tuple[BootOption, ...], shell: bytes | None, disks: Sequence[int], interfaces: Sequence[tuple[int, bytes]]
) -> tuple[BootOption, ...]:
    """``own`` and those made for devices, in the order of their numbers, which is the boot order.

    ``disks``: slots on the root bus of virtio disks; ``interfaces``: slots and addresses (6 bytes) of virtio network
    interfaces, both ascending. ``shell``: the contents of the shell's option, if the build has one.
    """
    made = [*_disks(disks), *(option for slot, mac in interfaces for option in _interface(slot, mac))]
    if shell is not None:
        made.append(shell)
    first = max((option.number for option in own), default=-1) + 1
    return (*own, *(BootOption(first + index, data) for index, data in enumerate(made)))


def _disks(slots: Sequence[int]) -> Iterator[bytes]:
    """Equal descriptions are told apart by a number from the second on."""
    for index, slot in enumerate(slots, 1):
        description = "UEFI Misc Device" + (f" {index}" if index > 1 else "")
        yield load_option(description, _pci(slot), mark=_MADE_BY_FIRMWARE)


def _interface(slot: int, mac: bytes) -> Iterator[bytes]:
    node = b"\x03\x0b\x25\0" + mac.ljust(32, b"\0") + b"\1"
    for protocol, ip in _NETWORK:
        description = f"UEFI {protocol} (MAC:{mac.hex().upper()})"
        yield load_option(description, _pci(slot) + node + ip, mark=_MADE_BY_FIRMWARE)


def _pci(slot: int) -> bytes:
    return _PCI_ROOT + bytes((1, 1, 6, 0, 0, slot))
