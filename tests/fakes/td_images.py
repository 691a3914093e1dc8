"""Made-up TDVF images, and where a real one comes from."""

from __future__ import annotations

from pathlib import Path

from ovmf.footer import FOOTER, TDX_METADATA
from ovmf.td_metadata import BFV, CFV, DESCRIPTOR, MR_EXTEND, TD_HOB, TEMP_MEM, TdSection
from tests.fakes.ovmf_images import real_amdsev


def real_firmware(name: str) -> Path | None:
    """``OVMF.fd`` or ``OVMF.inteltdx.ms.fd`` beside the image for SEV; ``None`` when there is none."""
    beside = real_amdsev()
    path = None if beside is None else beside.with_name(name)
    return path if path is not None and path.is_file() else None


def usual_sections(size: int = 0x10000, store: int = 0x4000) -> list[TdSection]:
    """Configuration volume first in the file, the rest boot firmware, and the memory of OVMF."""
    base = (1 << 32) - size
    return [
        TdSection(store, size - store, base + store, size - store, BFV, MR_EXTEND),
        TdSection(0, store, base, store, CFV, 0),
        TdSection(0, 0, 0x810000, 0x3000, TEMP_MEM, 0),
        TdSection(0, 0, 0x809000, 0x2000, TD_HOB, 0),
    ]


def td_image(
    sections: list[TdSection] | None = None, size: int = 0x10000, *, version: int = 1, count: int | None = None,
    signature: bytes = b"TDVF", guid: bytes = DESCRIPTOR, distance: int | None = None, length: int | None = None,
    fill: bytes = b"firmware",
) -> bytes:  # fmt: skip
    """An image whose descriptor lies 2 KiB before its end; every argument breaks one thing."""
    sections = usual_sections(size) if sections is None else sections
    body = bytearray((fill * (size // len(fill) + 1))[:size])
    count = len(sections) if count is None else count
    length = 16 + 32 * len(sections) if length is None else length
    table = guid + signature + b"".join(word.to_bytes(4, "little") for word in (length, version, count))
    for s in sections:
        table += s.data_offset.to_bytes(4, "little") + s.raw_size.to_bytes(4, "little")
        table += s.address.to_bytes(8, "little") + s.size.to_bytes(8, "little")
        table += s.type.to_bytes(4, "little") + s.attributes.to_bytes(4, "little")
    at = size - 2048 - 16
    body[at : at + len(table)] = table
    offset = (2048 if distance is None else distance).to_bytes(4, "little")
    entry = offset + (22).to_bytes(2, "little") + TDX_METADATA
    footer = entry + (18 + len(entry)).to_bytes(2, "little") + FOOTER
    body[size - 32 - len(footer) : size - 32] = footer
    return bytes(body)
