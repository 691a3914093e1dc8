"""Events of the boot path: images, partition tables, tagged events of the Linux stub, boot loader lines.

Sources: TCG PFP 1.06, section 10.2 (UEFI_IMAGE_LOAD_EVENT, UEFI_GPT_DATA, TCG_PCClientTaggedEvent); UEFI 2.10, section
5.3; Linux, ``drivers/firmware/efi/libstub``; GRUB, ``grub_verify`` strings of its ``tpm`` module; systemd, ``sd-stub``.
"""

from __future__ import annotations

from attest.evidence.device_path import device_path_text
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.event_reading import Reading
from attest.evidence.event_text import guid, short_hex, shown, text_of, utf16_of
from policy.wire import ByteReader

_INITRD, _LOAD_OPTIONS = 0x8F3B22EC, 0x8F3B22ED
_STUB_TAGS = {
    0xF5BC582A: "loader.conf",
    0x6C46F751: "devicetree-addon",
    0x49DFFE0F: "initrd-addon",
    0xDAC08E1A: "ucode-addon",
    0x13AED6DB: "uki-profile",
}
_GRUB_PREFIXES = (b"grub_cmd: ", b"kernel_cmdline: ", b"module_cmdline: ")
_MOK = ("MokList", "MokListX", "MokListTrusted", "Shim")
_RUNTIME = b"\1\0\0\x08"
_GPT_HEADER = 92
_MAX_PARTITIONS = 256
_CONTROLS = bytes(set(range(0x20)) - set(b"\t\r\n"))
"""In UTF-8 each of these bytes is that character and no part of another."""


def read_image(data: bytes) -> Reading:
    """UEFI_IMAGE_LOAD_EVENT: the digest is the image's Authenticode hash, so the path beside it proves nothing."""
    return Reading("application", _image_path(data))


def read_driver(data: bytes) -> Reading:
    """As :func:`read_image`, of a boot or run-time driver."""
    return Reading("driver", _image_path(data))


def _image_path(data: bytes) -> str:
    reader = ByteReader(data, "image load event", error=EvidenceMalformed)
    for name in ("address", "length", "link-time address"):
        reader.u64(name)
    path = reader.take(reader.u64("path length"), "path")
    reader.end()
    return device_path_text(path)


def read_gpt(data: bytes) -> Reading:
    """UEFI_GPT_DATA: the header, and the entries of partitions in use."""
    reader = ByteReader(data, "GPT", error=EvidenceMalformed)
    header = ByteReader(reader.take(_GPT_HEADER, "header"), "GPT header", error=EvidenceMalformed)
    if header.take(8, "signature") != b"EFI PART":
        raise header.fail("want the signature EFI PART")
    header.skip(48, "revision, size, checksums and blocks")
    disk = guid(header.take(16, "disk GUID"))
    header.skip(8, "first entry")
    header.u32("entries")
    each, count = header.u32("entry size"), reader.u64("partitions")
    if each < 128 or count > _MAX_PARTITIONS:
        raise reader.fail(f"{count} partitions of {each} bytes, want at most {_MAX_PARTITIONS} of at least 128")
    parts = [_partition(reader.take(each, "entry")) for _ in range(count)]
    reader.end()
    return Reading("gpt", f"disk {disk}, {count} partitions: {', '.join(parts)}", (data,))


def _partition(data: bytes) -> str:
    """``name (unique GUID, first block-last block)``."""
    reader = ByteReader(data, "GPT entry", error=EvidenceMalformed)
    reader.skip(16, "type")
    unique, first, last = guid(reader.take(16, "GUID")), reader.u64("first block"), reader.u64("last block")
    reader.skip(8, "attributes")
    name = utf16_of(reader.take(72, "name")).split("\\x00", 1)[0]
    return f"{name or 'unnamed'} ({unique}, {first}-{last})"


def read_tag(data: bytes) -> Reading:
    """TCG_PCClientTaggedEvent. The Linux stub's two describe what was hashed and do not contain it."""
    reader = ByteReader(data, "tagged event", error=EvidenceMalformed)
    tag, body = reader.u32("tag"), reader.take(reader.u32("size"), "data")
    reader.end()
    if tag == _LOAD_OPTIONS:
        return Reading("load-options", text_of(body.rstrip(b"\0")))
    if tag == _INITRD:
        return Reading("initrd", text_of(body.rstrip(b"\0")))
    word = f"{_STUB_TAGS[tag]} " if tag in _STUB_TAGS else ""
    return Reading(f"event-tag:0x{tag:x}", word + _any_text(body), (body, data))


def read_ipl(data: bytes) -> Reading:
    """EV_IPL, which every boot loader uses in its own way."""
    body = data.removesuffix(b"\0")
    for prefix in _GRUB_PREFIXES:
        if body.startswith(prefix):
            line = body[len(prefix) :]
            return Reading(f"ipl:{prefix[:-2].decode()}", text_of(line), (line,) if _is_line(line) else ())
    if _is_utf16(data):
        return _stub_event(data)
    text = text_of(body)
    if text in _MOK:
        return Reading(f"ipl:{text}", "", (data, body))
    if body.startswith((b"/", b"(")):
        return Reading("ipl:file", text)
    return Reading("ipl:text", text if body.isascii() else short_hex(data), (data, body))


def read_runtime(data: bytes) -> Reading:
    """``01 00 00 08 : name : payload``, all of it hashed: dstack's run-time events. Names have no colon."""
    head, _, rest = data.partition(b":")
    name, colon, payload = rest.partition(b":")
    if head != _RUNTIME or not colon:
        raise EvidenceMalformed(f"run-time event: begins {data[:8].hex()}, want {_RUNTIME.hex()}, a name and a payload")
    shown_payload = text_of(payload) if payload.isascii() else payload.hex()
    return Reading(f"runtime:{text_of(name)}", shown_payload, (data,))


def _stub_event(data: bytes) -> Reading:
    """systemd-stub and systemd-boot log UTF-16: a section's name (measured, then the section), or load options."""
    text = utf16_of(data[:-2])
    if text.startswith(".") and text[1:].isalnum():
        section = text.encode("ascii", "replace") + b"\0"
        return Reading("uki-section", text, (section,))
    return Reading("ipl:load-options", text, (data,) if "\\x00" not in text else ())


def _is_line(data: bytes) -> bool:
    """UTF-8 without control characters but tab and line ends. A program's bytes must not pass as a proven line."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return len(data.translate(None, _CONTROLS)) == len(data)


def _is_utf16(data: bytes) -> bool:
    return len(data) >= 4 and len(data) % 2 == 0 and data[-2:] == b"\0\0" and data[1:2] == b"\0"


def _any_text(data: bytes) -> str:
    body = data.rstrip(b"\0")
    if _is_utf16(data):
        return utf16_of(data[:-2])
    return text_of(body) if body.isascii() and shown(body.decode("ascii")).isprintable() else short_hex(data)
