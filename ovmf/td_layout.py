"""What a firmware's build decides about its measurements: which events there are, in which order, with which texts.

Read from the image: a module that is present, a text in a module, the release in the SMBIOS strings. Turning points of
edk2: the separator at ready-to-boot moved from RTMR0 to RTMR1 in stable202411 (efaf8931bb); fw_cfg items and SMBIOS are
measured, and the boot menu became a module of its own, from stable202505 (2eac71a1ee, cd76265f1, 9d9e3a2ba); the initrd
moved to the front of the load options in stable202508 (a2ac0fea49). What an image does not tell stays ``None``; then
the registers that depend on it are not predicted, unless the caller knows and says so with ``_replace``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from ovmf.boot_options import ACTIVE, APPLICATION, BootOption, load_option
from ovmf.guid import efi_guid
from ovmf.smbios import BiosInformation, bios_information
from ovmf.volumes import Module

BEFORE_BOOT_ORDER, AFTER_BOOT_ORDER, NOT_MEASURED = "before-boot-order", "after-boot-order", "not-measured"
INITRD_FIRST, INITRD_LAST = "initrd-first", "initrd-last"

_SECURE_BOOT = efi_guid("f0e6a44f-7195-41c3-ac64-54f202cd0a21")  # SecureBootConfigDxe
_SMBIOS_MEASUREMENT = efi_guid("d27fed59-abb4-4fed-bead-2a878c7e4a7e")
_SMBIOS_PLATFORM = efi_guid("4110465d-5ff3-4f4b-b580-24ed0d06747a")
_BOOT_MANAGER_MENU = efi_guid("eec25bdc-67f2-4d95-b1d5-f81b2039d11d")
_UI_APP = efi_guid("462caa21-7614-4503-836e-8ab6f4662331")
_SHELL = efi_guid("7c04a583-9e3e-4f1c-ad65-e05268d0b4d1")
_BDS = efi_guid("6d33944a-ec75-4855-a54d-809c75241f6c")
_SMM_VARIABLES = "VariableSmmRuntimeDxe"
_SETUP = "EFI Firmware Setup"

_RELEASE = re.compile(r"(?:^|\D)(20[0-9]{2})[.-]?(0[1-9]|1[0-2])(?:\D|$)")
_SEPARATOR_MOVED = (2024, 11)
_HIDDEN = 0x008


class TdLayout(NamedTuple):
    """``secure_boot``: the build has Secure Boot. ``fw_cfg``: QEMU's boot menu settings are measured (TDs only).

    ``smbios``: whether, and on which side of the boot order. ``separator``: the register (0 or 1) of the separator at
    ready-to-boot. ``load_options``: where the initrd's name stands. ``boot_options``: the firmware's own, in order;
    empty when unknown. ``bios``: its type 0 SMBIOS texts. ``release``: as found, for people. ``shell``: the contents of
    the option for its shell, which it adds when it starts no kernel given to QEMU.
    """

    secure_boot: bool
    fw_cfg: bool
    smbios: str
    separator: int | None
    load_options: str | None
    boot_options: tuple[BootOption, ...]
    bios: BiosInformation | None
    release: str
    shell: bytes | None = None

    def words(self) -> tuple[str, ...]:
        """As recorded in a reference-value file."""
        options = "+".join(f"Boot{option.number:04X}" for option in self.boot_options)
        return (
            f"release={self.release or 'unknown'}",
            f"secure-boot={'built-in' if self.secure_boot else 'none'}",
            f"fw-cfg={'measured' if self.fw_cfg else NOT_MEASURED}",
            f"smbios={self.smbios}",
            f"separator={'unknown' if self.separator is None else f'rtmr{self.separator}'}",
            f"load-options={self.load_options or 'unknown'}",
            f"boot-options={options or 'unknown'}",
        )


def layout_of_modules(modules: Sequence[Module]) -> TdLayout:
    """The layout of an image whose modules are these."""
    by_guid = {module.guid: module for module in modules}
    platform, bds = by_guid.get(_SMBIOS_PLATFORM), by_guid.get(_BDS)
    bios = None if platform is None else bios_information(platform.image)
    fw_cfg = any(b"QEMU FW CFG\0" in module.image for module in modules)
    smbios = _smbios(modules, measured=_SMBIOS_MEASUREMENT in by_guid)
    release = "" if bios is None else bios.version
    return TdLayout(
        secure_boot=_SECURE_BOOT in by_guid,
        fw_cfg=fw_cfg,
        smbios=smbios,
        separator=1 if fw_cfg or smbios != NOT_MEASURED else _separator(release),
        load_options=None if bds is None else _load_options(bds.image),
        boot_options=_boot_options(by_guid),
        bios=bios,
        release=release,
        shell=_application(by_guid[_SHELL], "EFI Internal Shell") if _SHELL in by_guid else None,
    )


def _smbios(modules: Sequence[Module], *, measured: bool) -> str:
    """Drivers that are dispatched later are told of ready-to-boot earlier.

    Without SMM the TCG driver can be dispatched before SmbiosMeasurementDxe, which follows it in the volume, so SMBIOS
    is measured first. With SMM it waits for the variable service and comes later, so the boot variables are first.
    """
    if not measured:
        return NOT_MEASURED
    return AFTER_BOOT_ORDER if any(module.name == _SMM_VARIABLES for module in modules) else BEFORE_BOOT_ORDER


def _separator(release: str) -> int | None:
    match = _RELEASE.search(release)
    if match is None:
        return None
    return 1 if (int(match[1]), int(match[2])) >= _SEPARATOR_MOVED else 0


def _load_options(bds: bytes) -> str | None:
    first, last = b"\0initrd=initrd \0" in bds, b"\0 initrd=initrd\0" in bds
    return None if first == last else INITRD_FIRST if first else INITRD_LAST


def _boot_options(by_guid: dict[bytes, Module]) -> tuple[BootOption, ...]:
    """The options the firmware makes for its own applications on an empty variable store."""
    menu, setup, bds = by_guid.get(_BOOT_MANAGER_MENU), by_guid.get(_UI_APP), by_guid.get(_BDS)
    if setup is None or bds is None:
        return ()
    if menu is None or _SETUP.encode("utf-16-le") + b"\0\0" not in bds.image:
        return (BootOption(0, _application(setup, setup.name, _HIDDEN)),)
    return (
        BootOption(0, _application(menu, menu.name, _HIDDEN)),
        BootOption(1, _application(setup, _SETUP)),
    )


def _application(module: Module, description: str, hidden: int = 0) -> bytes:
    """An option for a module: volume and file are its path."""
    path = b"\x04\x07\x14\0" + module.volume + b"\x04\x06\x14\0" + module.guid
    return load_option(description, path, attributes=ACTIVE | APPLICATION | hidden)
