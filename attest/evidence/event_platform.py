"""Events of the platform's firmware: blobs, hand-off tables, configuration, separators, actions, EV_NO_ACTION.

Source: TCG PFP 1.06, section 10.4 "Event Descriptions"; edk2 for what it puts into the fields that TCG leaves open;
td-shim specification, table "TD_SHIM_PLATFORM_CONFIG_INFO".
"""

from __future__ import annotations

from attest.evidence.errors import EvidenceMalformed
from attest.evidence.event_reading import Reading
from attest.evidence.event_text import guid, short_hex, text_of, utf16_of
from policy.wire import ByteReader

_QEMU = b"QEMU FW CFG\0"
_ACPI = b"ACPI DATA"
_TD_SHIM = (b"td_hob", b"td_payload_info", b"td_payload_svn", b"secure_policy_db", b"secure_authority")
_SMBIOS = ("EB9D2D31-2D88-11D3-9A16-0090273FC14D", "F2FD1544-9794-4A2C-992E-E5BBCF20E394")
_NORMAL_SEPARATORS = (bytes(4), b"\xff\xff\xff\xff")
_ERROR_SEPARATOR = b"\1\0\0\0"
_MAX_TABLES = 64


def read_separator(data: bytes) -> Reading:
    """Four bytes, zeros or ones. After an error the digest is of the number 1 and the data say what went wrong."""
    if data in _NORMAL_SEPARATORS:
        return Reading("separator", "" if data == bytes(4) else data.hex(), (data,))
    return Reading("separator:error", "", (_ERROR_SEPARATOR,))


def read_action(data: bytes) -> Reading:
    """The text is what was hashed, without a final NUL."""
    return Reading(f"action:{text_of(data)}", "", (data,))


def read_handoff(data: bytes) -> Reading:
    """UEFI_HANDOFF_TABLE_POINTERS: the digest is of the tables, not of these pointers."""
    reader = ByteReader(data, "hand-off tables", error=EvidenceMalformed)
    tables = _tables(reader)
    name = "smbios" if any(table.startswith(_SMBIOS) for table in tables) else "handoff-tables"
    return Reading(name, ", ".join(tables))


def read_handoff2(data: bytes) -> Reading:
    """UEFI_HANDOFF_TABLE_POINTERS2; edk2 describes the TD HOB as ``TdxTable``."""
    reader = ByteReader(data, "hand-off tables", error=EvidenceMalformed)
    description = text_of(reader.take(reader.u8("description length"), "description").rstrip(b"\0"))
    tables = ", ".join(_tables(reader))
    return Reading("td-hob" if description == "TdxTable" else f"handoff-tables:{description}", tables)


def _tables(reader: ByteReader) -> list[str]:
    count = reader.u64("tables")
    if count > _MAX_TABLES:
        raise reader.fail(f"{count} tables, want at most {_MAX_TABLES}")
    tables = [f"{guid(reader.take(16, 'vendor'))} at 0x{reader.u64('pointer'):x}" for _ in range(count)]
    reader.end()
    return tables


def read_blob(data: bytes) -> Reading:
    """UEFI_PLATFORM_FIRMWARE_BLOB: where a part of the firmware lay, which is what was hashed."""
    return Reading("firmware-blob", _blob(ByteReader(data, "firmware blob", error=EvidenceMalformed)))


def read_blob2(data: bytes) -> Reading:
    """With a description; ``Fv(GUID)`` is edk2's name of the configuration firmware volume of a TD."""
    reader = ByteReader(data, "firmware blob", error=EvidenceMalformed)
    description = text_of(reader.take(reader.u8("description length"), "description").rstrip(b"\0"))
    place = _blob(reader)
    if description.startswith("Fv("):
        return Reading("cfv", f"{description} {place}")
    return Reading(f"firmware-blob:{description}", place)


def _blob(reader: ByteReader) -> str:
    start, size = reader.u64("address"), reader.u64("length")
    reader.end()
    return f"0x{start:x}, {size} bytes"


def read_post_code(data: bytes) -> Reading:
    """EV_POST_CODE: text that was hashed itself, or a blob's place."""
    if len(data) == 16 and not data.isascii():
        return Reading("post-code", _blob(ByteReader(data, "post code", error=EvidenceMalformed)))
    return Reading("post-code", text_of(data), (data,))


def read_post_code2(data: bytes) -> Reading:
    """As :func:`read_blob2`, or text."""
    reader = ByteReader(data, "post code", error=EvidenceMalformed)
    if len(data) != data[0] + 17 if data else True:
        return Reading("post-code", text_of(data), (data,))
    description = text_of(reader.take(reader.u8("description length"), "description").rstrip(b"\0"))
    return Reading("post-code", f"{description} {_blob(reader)}")


def read_config_flags(data: bytes) -> Reading:
    """EV_PLATFORM_CONFIG_FLAGS: edk2 logs ``ACPI DATA`` or a fw_cfg name (NUL-padded) beside the hash of the file;
    td-shim a name (16 bytes), the length and all that is hashed.
    """
    if data.rstrip(b"\0") == _ACPI:
        return Reading("acpi")
    if data.startswith(_QEMU):
        name = data[len(_QEMU) :].rstrip(b"\0")
        return Reading(f"fw-cfg:{text_of(name)}")
    name, size, body = data[:16].rstrip(b"\0"), data[16:20], data[20:]
    if name in _TD_SHIM and size == len(body).to_bytes(4, "little"):
        return Reading(f"td-shim:{name.decode()}", short_hex(body), (body,))
    return Reading("config-flags", short_hex(data), (data,))


def read_version(data: bytes) -> Reading:
    """EV_S_CRTM_VERSION: UTF-16 text, or a GUID."""
    if len(data) == 16:
        return Reading("crtm-version", guid(data), (data,))
    if len(data) % 2 == 0 and data[-2:] == b"\0\0":
        return Reading("crtm-version", utf16_of(data[:-2]), (data,))
    return Reading("crtm-version", text_of(data), (data,))


def read_no_action(data: bytes) -> Reading:
    """EV_NO_ACTION: information only, never extended, so never proven."""
    signature = data[:16].rstrip(b"\0")
    if signature == b"StartupLocality" and len(data) == 17:
        return Reading("no-action:StartupLocality", str(data[16]))
    word = text_of(signature) if signature.isascii() and signature else "data"
    return Reading(f"no-action:{word}", short_hex(data[16:]))
