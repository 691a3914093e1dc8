"""Find and read the firmware of a VM: a path, or ``auto`` by platform and QEMU's firmware descriptors."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from launcher.core.facts import FirmwareFacts
from launcher.io.hashing import read_file
from ovmf.errors import OvmfError
from ovmf.firmware import MAX_FIRMWARE, Firmware
from ovmf.kernel_hashes import KernelHashes
from ovmf.snp_launch import check_boot_hashes
from policy.vocab import Platform

DESCRIPTOR_DIRS = (Path("/etc/qemu/firmware"), Path("/usr/share/qemu/firmware"))
_AMD_SEV = "OVMF.amdsev.fd"
_GENERIC = ("OVMF.fd",)
_SNP_FEATURE = "amd-sev-snp"


def find_firmware(wanted: str, platform: Platform, folder: Path | None, *, boots_kernel: bool) -> FirmwareFacts | None:
    """The firmware for one VM. ``wanted`` is ``auto`` or an absolute path; ``folder`` is the toolchain's.

    ``None``: no file is needed (platform none with QEMU's built-in SeaBIOS) or, for a measured platform, none exists.
    Raises `launcher.io.hashing.FileUnreadable`, and `ovmf.errors.FirmwareMalformed` for a measured platform's file.
    """
    if wanted != "auto":
        return inspect_firmware(wanted, "the VM file names it", measured=platform is not Platform.NONE)
    if platform is Platform.NONE:
        return None if boots_kernel else _generic(folder)
    candidate = None if folder is None else folder / _AMD_SEV
    if candidate is not None and candidate.is_file():
        return inspect_firmware(str(candidate), "auto: beside this QEMU", measured=True)
    for path, descriptor in described(DESCRIPTOR_DIRS):
        return inspect_firmware(path, f"auto: {descriptor} offers {_SNP_FEATURE}", measured=True)
    return None


def inspect_firmware(path: str, origin: str, *, measured: bool) -> FirmwareFacts:
    """Read and parse one file; for a VM that nothing measures it need not be parseable."""
    data = read_file(path, "firmware", MAX_FIRMWARE)
    try:
        parsed = Firmware.from_bytes(data)
    except OvmfError:
        if measured:
            raise
        from hashlib import sha256

        return FirmwareFacts(path, sha256(data).hexdigest(), None, measures_kernel=False, origin=origin)
    return FirmwareFacts(
        path, parsed.sha256.hex(), parsed.layout.hash_table_gpa, measures_kernel=_measures(parsed), origin=origin
    )


def described(folders: Iterable[Path]) -> list[tuple[str, str]]:
    """(firmware file, descriptor's name) of every descriptor for SEV-SNP direct boot, in QEMU's order of preference.

    A file in an earlier folder hides one of the same name in a later one; an empty file hides without offering.
    Source: QEMU ``docs/interop/firmware.json``.
    """
    chosen: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
            chosen.setdefault(path.name, path)
    found = []
    for name in sorted(chosen):
        filename = _snp_file(chosen[name])
        if filename is not None:
            found.append((filename, name))
    return found


def _snp_file(descriptor: Path) -> str | None:
    try:
        document = json.loads(descriptor.read_bytes())
        mapping = document["mapping"]
        features = document["features"]
        if mapping["device"] == "memory" and _SNP_FEATURE in features and Path(mapping["filename"]).is_file():
            return str(mapping["filename"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a broken descriptor offers nothing, as to QEMU's other readers
    return None


def _generic(folder: Path | None) -> FirmwareFacts | None:
    for name in _GENERIC:
        if folder is not None and (folder / name).is_file():
            return inspect_firmware(str(folder / name), "auto: boots a disk by UEFI", measured=False)
    return None


def _measures(firmware: Firmware) -> bool:
    empty = bytes(32)
    try:
        check_boot_hashes(firmware.layout, KernelHashes(empty, empty, empty))
    except OvmfError:
        return False
    return True
