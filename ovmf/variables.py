"""The firmware's variable store: what Secure Boot variables an image carries in its configuration volume.

A firmware volume of the NVRAM file system, then a store {GUID 16, size u32, format u8, state u8, reserved u16, u32},
then variables, 4-byte aligned: {start u16 = 0x55AA, state u8, reserved u8, attributes u32, count u64, time 16, key
index u32, name size u32, data size u32, vendor GUID 16}, name (UTF-16LE with NUL), data. A variable counts while its
state is ADDED, or ADDED and IN_DELETED_TRANSITION when no newer copy was added. Sources: edk2
``MdeModulePkg/Include/Guid/VariableFormat.h``, ``MdeModulePkg/Universal/Variable/RuntimeDxe``.
"""

from __future__ import annotations

from typing import NamedTuple

from ovmf.errors import VariablesMalformed
from ovmf.guid import efi_guid, guid_text
from policy.wire import ByteReader

EFI_GLOBAL = efi_guid("8be4df61-93ca-11d2-aa0d-00e098032b8c")
IMAGE_SECURITY = efi_guid("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
SECURE_BOOT_ENABLE = efi_guid("f0a30bc7-af08-4556-99c4-001009c93a44")

_NVRAM_VOLUME = efi_guid("fff12b8d-7696-4c8b-a985-2747075b4f50")
_AUTHENTICATED = efi_guid("aaf32c78-947b-439a-a180-2e144ec37792")
_START, _ERASED = 0x55AA, 0xFFFF
_ADDED, _LEAVING = 0x3F, 0x3E
_FORMATTED, _HEALTHY = 0x5A, 0xFE

Key = tuple[bytes, str]
"""Vendor GUID (16 bytes, EFI order) and name."""


class Variable(NamedTuple):
    """One variable; ``vendor`` is a GUID of 16 bytes in EFI order."""

    vendor: bytes
    name: str
    data: bytes


def parse_variables(volume: bytes) -> dict[Key, bytes]:
    """The data of every valid variable of a whole configuration volume, or :class:`VariablesMalformed`.

    An erased store (all 0xFF after its header) has none. Refused: another file system or store, sizes beyond the store,
    names that are not UTF-16, bytes that are neither a variable nor erased.
    """
    reader = ByteReader(volume, "variable store", error=VariablesMalformed)
    reader.skip(16, "zero vector")
    guid = reader.take(16, "file system")
    if guid != _NVRAM_VOLUME:
        raise reader.fail(f"file system: got {guid_text(guid)}, want {guid_text(_NVRAM_VOLUME)}")
    length = reader.u64("volume length")
    if reader.take(4, "signature") != b"_FVH":
        raise reader.fail("signature at 0x28: want _FVH")
    reader.skip(4, "attributes")
    header = reader.u16("header length")
    if not 56 <= header <= length <= len(volume):
        raise reader.fail(f"volume of {length} bytes with a header of {header}: want both within {len(volume)}")
    return _store(volume[header:length], header)


def _store(data: bytes, base: int) -> dict[Key, bytes]:
    reader = ByteReader(data, "variable store", error=VariablesMalformed, base=base)
    guid = reader.take(16, "store GUID")
    if guid != _AUTHENTICATED:
        raise reader.fail(f"store GUID at 0x{base:X}: got {guid_text(guid)}, want {guid_text(_AUTHENTICATED)}")
    size, form, state = reader.u32("store size"), reader.u8("format"), reader.u8("state")
    if (form, state) != (_FORMATTED, _HEALTHY):
        raise reader.fail(f"format and state: got 0x{form:02X}{state:02X}, want 0x5AFE")
    if not 28 <= size <= len(data):
        raise reader.fail(f"store size: got {size}, want 28..{len(data)}")
    reader.skip(6, "reserved")
    return _variables(ByteReader(data[28:size], "variable store", error=VariablesMalformed, base=base + 28))


def _variables(reader: ByteReader) -> dict[Key, bytes]:
    added: dict[Key, bytes] = {}
    leaving: dict[Key, bytes] = {}
    while reader.remaining >= 60:
        where = reader.offset
        start = reader.u16("start")
        if start == _ERASED:
            break
        if start != _START:
            raise reader.fail(f"variable at offset 0x{where:X}: start got 0x{start:04X}, want 0x55AA")
        state, variable = _variable(reader)
        if state == _ADDED:
            added[variable.vendor, variable.name] = variable.data
        elif state == _LEAVING:
            leaving[variable.vendor, variable.name] = variable.data
        reader.skip(min(-reader.offset % 4, reader.remaining), "alignment")
    return leaving | added


def _variable(reader: ByteReader) -> tuple[int, Variable]:
    state = reader.u8("state")
    reader.skip(1 + 4 + 8 + 16 + 4, "attributes and time")
    name_size, data_size = reader.u32("name size"), reader.u32("data size")
    vendor = reader.take(16, "vendor GUID")
    raw, data = reader.take(name_size, "name"), reader.take(data_size, "data")
    if state not in (_ADDED, _LEAVING):
        return state, Variable(vendor, "", b"")
    try:
        name = raw.decode("utf-16-le")
    except UnicodeDecodeError:
        raise reader.fail(f"name {raw[:40].hex()} is not UTF-16") from None
    if not name.endswith("\0") or "\0" in name[:-1]:
        raise reader.fail(f"name {raw[:40].hex()}: want one NUL, at its end")
    return state, Variable(vendor, name[:-1], data)


def secure_boot(variables: dict[Key, bytes], *, supported: bool) -> bytes:
    """What the variable SecureBoot holds at boot: empty without support in the build, else one byte, 1 when on.

    On: a platform key is enrolled and SecureBootEnable is not 0 (absent counts as enabled then).
    """
    if not supported:
        return b""
    enrolled = bool(variables.get((EFI_GLOBAL, "PK")))
    enabled = variables.get((SECURE_BOOT_ENABLE, "SecureBootEnable"), b"\1") == b"\1"
    return b"\1" if enrolled and enabled else b"\0"


def variable_data(vendor: bytes, name: str, data: bytes) -> bytes:
    """UEFI_VARIABLE_DATA {vendor 16, name length u64 in characters, data length u64, name without NUL, data}.

    Source: TCG PC Client Platform Firmware Profile, section 10.2.6.
    """
    units = name.encode("utf-16-le")
    return vendor + (len(units) // 2).to_bytes(8, "little") + len(data).to_bytes(8, "little") + units + data
