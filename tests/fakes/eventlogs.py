"""Event logs for tests: events with the digests that firmware would have extended."""

from __future__ import annotations

import hashlib
import struct
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from attest.evidence import event_types as ev
from attest.evidence.eventlog_build import NewEvent, build_event_log
from ovmf.guid import efi_guid
from tests.fakes.amd_pki import ec_key

GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
IMAGE_SECURITY = "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
SHIM = "605dab50-e046-4300-abb6-3dd810dd8b23"
_SHA256_LIST = "c1c41626-504c-4092-aca9-41f936934328"
END = bytes.fromhex("7fff0400")


def event(index: int, kind: int, data: bytes, covered: bytes | None = None, digest: bytes | None = None) -> NewEvent:
    """One SHA-384 event; the digest is of ``covered``, by default of the data."""
    value = digest or hashlib.sha384(data if covered is None else covered).digest()
    return NewEvent(index, kind, ((ev.SHA384, value),), data)


def variable(name: str, contents: bytes, vendor: str = GLOBAL) -> bytes:
    """UEFI_VARIABLE_DATA."""
    return efi_guid(vendor) + struct.pack("<QQ", len(name), len(contents)) + name.encode("utf-16-le") + contents


def node(kind: int, subtype: int, body: bytes = b"") -> bytes:
    """One device path node."""
    return struct.pack("<BBH", kind, subtype, 4 + len(body)) + body


def file_node(name: str) -> bytes:
    """A file path node."""
    return node(4, 4, name.encode("utf-16-le") + b"\0\0")


def image_load(path: bytes) -> bytes:
    """UEFI_IMAGE_LOAD_EVENT."""
    return struct.pack("<QQQQ", 0x7CB30018, 4096, 0, len(path)) + path


def tag(number: int, text: bytes) -> bytes:
    """TCG_PCClientTaggedEvent."""
    return struct.pack("<II", number, len(text)) + text


def hash_list(count: int) -> bytes:
    """An EFI_SIGNATURE_LIST of SHA-256 hashes."""
    entries = b"".join(bytes(16) + hashlib.sha256(bytes([n])).digest() for n in range(count))
    return efi_guid(_SHA256_LIST) + struct.pack("<III", 28 + len(entries), 0, 48) + entries


def x509_lists(*certificates: bytes) -> bytes:
    """One EFI_SIGNATURE_LIST per certificate."""
    kind = efi_guid("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
    sizes = [(28 + 16 + len(der), 0, 16 + len(der)) for der in certificates]
    return b"".join(
        kind + struct.pack("<III", *size) + bytes(16) + der for size, der in zip(sizes, certificates, strict=True)
    )


def named_certificate(common: str) -> bytes:
    """A self-signed certificate with this common name, DER."""
    key, name = ec_key("event-log"), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    day = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, day, day.replace(year=2036))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def load_option(description: str, path: bytes, attributes: int = 1, data: bytes = b"") -> bytes:
    """EFI_LOAD_OPTION."""
    text = description.encode("utf-16-le") + b"\0\0"
    return struct.pack("<IH", attributes, len(path)) + text + path + data


def secure_boot(state: bytes = b"\1") -> list[NewEvent]:
    """SecureBoot, PK, KEK, db, dbx as edk2 measures them into RTMR0."""
    rows = [("SecureBoot", state, GLOBAL), ("PK", b"", GLOBAL), ("KEK", b"", GLOBAL)]
    rows += [("db", hash_list(2), IMAGE_SECURITY), ("dbx", hash_list(3), IMAGE_SECURITY)]
    return [event(1, ev.EV_EFI_VARIABLE_DRIVER_CONFIG, variable(*row)) for row in rows]


def direct_boot(cmdline: str = "console=ttyS0", kernel: bytes = b"kernel", initrd: bytes = b"initrd") -> list[NewEvent]:
    """What edk2 stable202505 and a Linux stub measure when QEMU loads the kernel."""
    text = f"initrd=initrd {cmdline}".encode("utf-16-le") + b"\0\0"
    hob = b"\x09TdxTable\0" + struct.pack("<Q", 1) + bytes(16) + struct.pack("<Q", 0x809000)
    cfv = b"\x29Fv(XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX)\0" + struct.pack("<QQ", 0xFFC00000, 540672)
    option = load_option("UiApp", node(4, 7, bytes(16)) + node(4, 6, bytes(16)) + END, 0x109)
    fw_cfg = b"QEMU FW CFG\0bootorder".ljust(68, b"\0")
    path = node(4, 3, bytes(16)) + file_node("kernel") + END
    return [
        event(1, ev.EV_EFI_HANDOFF_TABLES2, hob, b"the hob list"),
        event(1, ev.EV_EFI_PLATFORM_FIRMWARE_BLOB2, cfv, b"the volume"),
        event(1, ev.EV_PLATFORM_CONFIG_FLAGS, fw_cfg, b"the order"),
        *secure_boot(),
        event(1, ev.EV_SEPARATOR, bytes(4)),
        *(event(1, ev.EV_PLATFORM_CONFIG_FLAGS, b"ACPI DATA", bytes([n])) for n in range(3)),
        event(2, ev.EV_EFI_BOOT_SERVICES_APPLICATION, image_load(path), kernel),
        event(1, ev.EV_EFI_VARIABLE_BOOT, variable("BootOrder", b"\0\0\1\0"), b"\0\0\1\0"),
        event(1, ev.EV_EFI_VARIABLE_BOOT, variable("Boot0000", option), option),
        event(2, ev.EV_EFI_ACTION, b"Calling EFI Application from Boot Option"),
        event(2, ev.EV_SEPARATOR, bytes(4)),
        event(3, ev.EV_EVENT_TAG, tag(0x8F3B22ED, b"LOADED_IMAGE::LoadOptions\0"), text),
        event(3, ev.EV_EVENT_TAG, tag(0x8F3B22EC, b"Linux initrd\0"), initrd),
        event(2, ev.EV_EFI_ACTION, b"Exit Boot Services Invocation"),
        event(2, ev.EV_EFI_ACTION, b"Exit Boot Services Returned with Success"),
    ]


def direct_boot_log(*more: NewEvent, size: int = 0, **changes: object) -> bytes:
    """The log of :func:`direct_boot`, and then ``more``."""
    return build_event_log([*direct_boot(**changes), *more], size=size)  # type: ignore[arg-type]


__all__ = ["END", "GLOBAL", "IMAGE_SECURITY", "SHIM", "NewEvent", "build_event_log"]
