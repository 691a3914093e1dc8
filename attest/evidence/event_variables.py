"""EFI variables as firmware measures them: secure boot databases, boot order, boot options, authorities.

UEFI_VARIABLE_DATA: vendor GUID, u64 length of the name in characters, u64 length of the contents, the name in UTF-16
without NUL, the contents. Signature lists: UEFI 2.10, section 32.4.1 (EFI_SIGNATURE_LIST); load options: section 3.1.3.
"""

from __future__ import annotations

import hashlib

from cryptography import x509

from attest.evidence.device_path import device_path_text
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.event_reading import Reading
from attest.evidence.event_text import guid, short_hex, shown, text_of, utf16_of
from attest.evidence.x509_reading import READ_ERRORS
from policy.wire import ByteReader

GLOBAL = "8BE4DF61-93CA-11D2-AA0D-00E098032B8C"
IMAGE_SECURITY = "D719B2CB-3D3A-4596-A3BC-DAD00E67656F"
SHIM = "605DAB50-E046-4300-ABB6-3DD810DD8B23"
_DATABASES = ("db", "dbx", "dbt", "dbr")
_SIGNED_BY_OWNER = ("PK", "KEK")
_X509, _SHA256 = "A5C059A1-94E4-4AA7-87B5-AB155C2BF072", "C1C41626-504C-4092-ACA9-41F936934328"
_LIST_KINDS = {
    _SHA256: "SHA-256",
    "FF3E5307-9FD0-48C9-85F1-8AD56C701E01": "SHA-384",
    "093E0FAE-A6C4-4F50-9F1B-D41E2B89C19A": "SHA-512",
    "826CA512-CF10-4AC9-B187-BE01496631BD": "SHA-1",
    "3C5766E8-269C-4E34-AA14-ED776E85B3B6": "RSA-2048",
    "3BD2A492-96C0-4079-B420-FCF98EF103ED": "X.509 by SHA-256",
    "7076876E-80C2-4EE6-AAD2-28B349A6865B": "X.509 by SHA-384",
    "446DBF63-2502-4CDA-BCFA-2465D2B0FE9D": "X.509 by SHA-512",
}
_MAX_SIGNATURES = 20_000
_OWNER = 16
_MAX_BOOT_ORDER = 4096
_LOAD_OPTION_BITS = 0x1F0B
_LIST_HEADER = 28


def read_driver_config(data: bytes) -> Reading:
    """EV_EFI_VARIABLE_DRIVER_CONFIG: the digest covers the whole structure."""
    vendor, name, contents = _variable(data)
    return Reading(f"variable:{_named(vendor, name)}", _contents_text(vendor, name, contents), (data,))


def read_authority(data: bytes) -> Reading:
    """EV_EFI_VARIABLE_AUTHORITY: the one entry of a database that vouched for an image, or a setting of shim."""
    vendor, name, contents = _variable(data)
    text = _shim_text(contents) if vendor == SHIM else _signature_text(contents)
    return Reading(f"authority:{_named(vendor, name)}", text, (data,))


def read_boot_variable(data: bytes) -> Reading:
    """EV_EFI_VARIABLE_BOOT and BOOT2: edk2 hashes the contents only under the first, the structure under the second."""
    vendor, name, contents = _variable(data)
    if vendor == GLOBAL and name == "BootOrder":
        return Reading("boot-order", _boot_order_text(contents), (contents, data))
    if vendor == GLOBAL and len(name) == 8 and name.startswith("Boot"):
        return Reading(f"boot-option:{name}", _load_option_text(contents), (contents, data))
    return Reading(f"boot-variable:{_named(vendor, name)}", short_hex(contents), (contents, data))


def certificate_text(der: bytes) -> str:
    """``x509 <SHA-256 of the DER, hex> <subject>``; the subject has no semicolon, which separates entries."""
    digest = hashlib.sha256(der).hexdigest()
    try:
        subject = x509.load_der_x509_certificate(der).subject.rfc4514_string()
    except READ_ERRORS:
        return f"x509 {digest} unreadable"
    return f"x509 {digest} {shown(subject).replace(';', ',')}"


def _variable(data: bytes) -> tuple[str, str, bytes]:
    reader = ByteReader(data, "variable", error=EvidenceMalformed)
    vendor, characters, size = guid(reader.take(16, "vendor")), reader.u64("name length"), reader.u64("data length")
    name = utf16_of(reader.take(2 * characters, "name"))
    contents = reader.take(size, "contents")
    reader.end()
    return vendor, name, contents


def _named(vendor: str, name: str) -> str:
    """The bare name under the vendor that owns it, else with the GUID: another vendor's ``db`` is not the ``db``."""
    if name in _DATABASES:
        owner = IMAGE_SECURITY
    elif name.startswith(("Mok", "Sbat")):
        owner = SHIM
    else:
        owner = GLOBAL
    return name if vendor == owner else f"{name}@{vendor}"


def _contents_text(vendor: str, name: str, contents: bytes) -> str:
    if vendor == GLOBAL and name == "SecureBoot":
        return {b"": "absent", b"\0": "off", b"\1": "on"}.get(contents, contents.hex())
    if (vendor == IMAGE_SECURITY and name in _DATABASES) or (vendor == GLOBAL and name in _SIGNED_BY_OWNER):
        return signature_lists_text(contents)
    return short_hex(contents)


def signature_lists_text(data: bytes) -> str:
    """``x509 <SHA-256> <subject>; 77 SHA-256``: every certificate, and how many hashes of each kind; ``empty``."""
    reader = ByteReader(data, "signature lists", error=EvidenceMalformed)
    certificates: list[str] = []
    counts: dict[str, int] = {}
    total = 0
    while reader.remaining:
        kind, entries = _signature_list(reader)
        total += len(entries)
        if total > _MAX_SIGNATURES:
            raise reader.fail(f"more than {_MAX_SIGNATURES} signatures")
        if kind == _X509:
            certificates += [certificate_text(entry) for entry in entries]
        else:
            word = _LIST_KINDS.get(kind, kind)
            counts[word] = counts.get(word, 0) + len(entries)
    return "; ".join((*certificates, *(f"{count} {word}" for word, count in counts.items()))) or "empty"


def _signature_list(reader: ByteReader) -> tuple[str, list[bytes]]:
    """One EFI_SIGNATURE_LIST: its type and its entries without their owners."""
    kind = guid(reader.take(16, "signature type"))
    size, header, each = reader.u32("list size"), reader.u32("header size"), reader.u32("signature size")
    body = size - _LIST_HEADER - header
    if each <= _OWNER or body < 0 or body % each:
        raise reader.fail(f"list of {size} bytes with a header of {header}, want whole signatures of {each} bytes")
    reader.skip(header, "list header")
    entries = []
    for _ in range(body // each):
        reader.skip(_OWNER, "owner")
        entries.append(reader.take(each - _OWNER, "signature"))
    return kind, entries


def _signature_text(contents: bytes) -> str:
    """EFI_SIGNATURE_DATA: owner and a certificate or a hash. Never free text, which could imitate a certificate."""
    if contents[_OWNER : _OWNER + 2] == b"\x30\x82":
        return certificate_text(contents[_OWNER:])
    return f"SHA-256 {contents[_OWNER:].hex()}" if len(contents) == _OWNER + 32 else short_hex(contents)


def _shim_text(contents: bytes) -> str:
    """What shim keeps: a signature, the text of SbatLevel, or a few bytes."""
    if contents[_OWNER : _OWNER + 2] == b"\x30\x82":
        return certificate_text(contents[_OWNER:])
    return text_of(contents) if contents.startswith(b"sbat,") and contents.isascii() else short_hex(contents)


def _boot_order_text(contents: bytes) -> str:
    reader = ByteReader(contents, "BootOrder", error=EvidenceMalformed)
    options: list[str] = []
    if reader.remaining > _MAX_BOOT_ORDER:
        raise reader.fail(f"{reader.remaining} bytes, want at most {_MAX_BOOT_ORDER}")
    while reader.remaining:
        options.append(f"{reader.u16('option'):04X}")
    if len(set(options)) != len(options):
        raise reader.fail("an option occurs twice, want each once")
    return ",".join(options)


def _load_option_text(contents: bytes) -> str:
    """``"description" path, attributes 0x1``; of optional data the size and the beginning."""
    reader = ByteReader(contents, "load option", error=EvidenceMalformed)
    attributes, length = reader.u32("attributes"), reader.u16("path length")
    if attributes & ~_LOAD_OPTION_BITS:
        raise reader.fail(f"attributes 0x{attributes:x} have undefined bits, want only 0x{_LOAD_OPTION_BITS:x}")
    characters = []
    while (character := reader.take(2, "description")) != b"\0\0":
        characters.append(character)
    path = device_path_text(reader.take(length, "path"))
    optional = reader.take(reader.remaining, "optional data")
    text = f'"{utf16_of(b"".join(characters))}" {path}, attributes 0x{attributes:x}'
    return f"{text}, data {short_hex(optional)}" if optional else text
