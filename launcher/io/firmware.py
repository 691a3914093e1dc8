"""Find and read the firmware of a VM: a path, or ``auto`` by platform and QEMU's firmware descriptors."""

from __future__ import annotations

import os

from launcher.core.facts import FirmwareFacts
from launcher.core.vm import TD_PLATFORMS
from launcher.io.hashing import read_file
from policy import plain_json
from policy.vocab import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from launcher.io.sysfs import AnyPath
    from ovmf.firmware import Firmware

DESCRIPTOR_DIRS = ("/etc/qemu/firmware", "/usr/share/qemu/firmware")
MAX_KERNEL = 1 << 30
_AMD_SEV = "OVMF.amdsev.fd"
_GENERIC = ("OVMF.fd",)
_SNP_FEATURE = "amd-sev-snp"


def find_firmware(
    wanted: str, platform: Platform, folder: AnyPath | None, *, boots_kernel: bool
) -> FirmwareFacts | None:
    """The firmware for one VM. ``wanted`` is ``auto`` or an absolute path; ``folder`` is the toolchain's.

    ``None``: no file is needed (platform none with QEMU's built-in SeaBIOS) or, for a measured platform, none exists.
    Raises `launcher.io.hashing.FileUnreadable`, and `ovmf.errors.FirmwareMalformed` for a measured platform's file.
    """
    if wanted != "auto":
        snp = platform in (Platform.SEV_SNP, Platform.EMULATED_SNP)
        return inspect_firmware(wanted, "the VM file names it", measured=snp)
    if platform is Platform.NONE:
        return None if boots_kernel else _generic(folder, "auto: boots a disk by UEFI")
    if platform in TD_PLATFORMS:
        return _generic(folder, "auto: beside this QEMU; starts TDs, has no Secure Boot keys, so any kernel starts")
    candidate = f"{folder}/{_AMD_SEV}"
    if folder is not None and os.path.isfile(candidate):
        return inspect_firmware(candidate, "auto: beside this QEMU", measured=True)
    for path, descriptor in described(DESCRIPTOR_DIRS):
        return inspect_firmware(path, f"auto: {descriptor} offers {_SNP_FEATURE}", measured=True)
    return None


def inspect_firmware(path: str, origin: str, *, measured: bool) -> FirmwareFacts:
    """Read and parse one file. ``measured``: as SEV-SNP does, so it must have what that takes."""
    from ovmf.errors import OvmfError
    from ovmf.firmware import MAX_FIRMWARE, Firmware

    data = read_file(path, "firmware", MAX_FIRMWARE)
    try:
        parsed = Firmware.from_bytes(data)
    except OvmfError:
        if measured:
            raise
        from hashlib import sha256

        starts_td, secure = _td(data)
        return FirmwareFacts(path, sha256(data).hexdigest(), None, False, origin, starts_td, secure)
    facts = FirmwareFacts(
        path, parsed.sha256.hex(), parsed.layout.hash_table_gpa, measures_kernel=_measures(parsed), origin=origin
    )
    if measured:
        return facts
    starts_td, secure = _td(data)
    return facts._replace(starts_td=starts_td, secure_boot=secure)


def is_signed(path: str) -> bool:
    """Whether a kernel is a PE image with a certificate table. ``False`` for anything else."""
    from ovmf.errors import PeMalformed
    from ovmf.pe import parse_pe

    try:
        return parse_pe(read_file(path, "kernel", MAX_KERNEL)).certificates[1] > 0
    except PeMalformed:
        return False


def _td(data: bytes) -> tuple[bool, bool]:
    """Whether the image can start a TD, and whether it then wants signed images."""
    from ovmf.errors import OvmfError
    from ovmf.td_firmware import TdFirmware
    from ovmf.variables import EFI_GLOBAL, secure_boot

    try:
        firmware = TdFirmware.from_bytes(data)
    except OvmfError:
        return False, False
    try:
        if not firmware.variables.get((EFI_GLOBAL, "PK")):
            return True, False  # spares unpacking the image to see whether its build could
        return True, secure_boot(firmware.variables, supported=firmware.layout.secure_boot) == b"\1"
    except OvmfError:
        return True, False  # measuring it will say what is wrong with it


def described(folders: Iterable[AnyPath]) -> list[tuple[str, str]]:
    """(firmware file, descriptor's name) of every descriptor for SEV-SNP direct boot, in QEMU's order of preference.

    A file in an earlier folder hides one of the same name in a later one; an empty file hides without offering.
    Source: QEMU ``docs/interop/firmware.json``.
    """
    chosen: dict[str, str] = {}
    for folder in folders:
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            if name.endswith(".json"):
                chosen.setdefault(name, f"{folder}/{name}")
    found = []
    for name in sorted(chosen):
        filename = _snp_file(chosen[name])
        if filename is not None:
            found.append((filename, name))
    return found


def _snp_file(descriptor: str) -> str | None:
    try:
        with open(descriptor, "rb") as file:  # noqa: PTH123  pathlib costs start-up time
            document = plain_json.loads(file.read())
        mapping = document["mapping"]
        features = document["features"]
        if mapping["device"] == "memory" and _SNP_FEATURE in features and os.path.isfile(mapping["filename"]):
            return str(mapping["filename"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a broken descriptor offers nothing, as to QEMU's other readers
    return None


def _generic(folder: AnyPath | None, origin: str) -> FirmwareFacts | None:
    for name in _GENERIC:
        if folder is not None and os.path.isfile(f"{folder}/{name}"):
            return inspect_firmware(f"{folder}/{name}", origin, measured=False)
    return None


def _measures(firmware: Firmware) -> bool:
    from ovmf.errors import OvmfError
    from ovmf.kernel_hashes import KernelHashes
    from ovmf.snp_launch import check_boot_hashes

    empty = bytes(32)
    try:
        check_boot_hashes(firmware.layout, KernelHashes(empty, empty, empty))
    except OvmfError:
        return False
    return True
