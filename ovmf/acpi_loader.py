"""QEMU's ACPI blobs in the order the firmware reads, and measures, them.

``etc/table-loader`` is a list of 128-byte commands; the firmware measures it, then every blob as an ALLOCATE command
{command u32 = 1, file name 56 bytes, alignment u32, zone u8} makes it load that blob. Sources: QEMU
``hw/acpi/bios-linker-loader.c``, edk2 ``OvmfPkg/AcpiPlatformDxe/QemuFwCfgAcpi.c``.
"""

from __future__ import annotations

from collections.abc import Mapping

from ovmf.errors import AcpiMalformed
from policy.wire import ByteReader

LOADER = "etc/table-loader"
_COMMAND = 128
_ALLOCATE = 1
_MAX_LOADER = 1 << 20


def measured_blobs(files: Mapping[str, bytes]) -> tuple[tuple[str, bytes], ...]:
    """(fw_cfg file name, contents) in order of measurement, the loader first.

    ``files`` holds at least the loader and what it allocates; others are passed over. Raises :class:`AcpiMalformed`.
    """
    loader = files.get(LOADER)
    if loader is None or not loader or len(loader) % _COMMAND or len(loader) > _MAX_LOADER:
        got = "nothing" if loader is None else f"{len(loader)} bytes"
        raise AcpiMalformed(f"ACPI: {LOADER}: got {got}, want commands of {_COMMAND} bytes")
    found = [(LOADER, loader)]
    for at in range(0, len(loader), _COMMAND):
        name = _allocated(loader[at : at + _COMMAND], at)
        if name is not None:
            if name not in files:
                raise AcpiMalformed(f"ACPI: {LOADER} at 0x{at:X} allocates {name!r}, which was not given")
            found.append((name, files[name]))
    return tuple(found)


def _allocated(command: bytes, base: int) -> str | None:
    reader = ByteReader(command, "ACPI loader command", error=AcpiMalformed, base=base)
    if reader.u32("command") != _ALLOCATE:
        return None
    raw, end, rest = reader.take(56, "file name").partition(b"\0")
    if not raw or not end or rest.strip(b"\0") or not raw.isascii() or not raw.decode("ascii").isprintable():
        raise reader.fail(f"file name at 0x{base + 4:X}: want printable ASCII with a NUL")
    return raw.decode("ascii")
