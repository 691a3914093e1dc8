"""A firmware image of two pages with just the footer and the SEV metadata a launch digest needs."""

from __future__ import annotations

import struct
from uuid import UUID

HASH_TABLE_GPA = 0x810C00
_FOOTER = "96b582de-1fb2-45f7-baea-a366c55a082d"
_RESET_BLOCK = "00f771de-1a7e-4fcb-890e-68c77e2fb44e"
_HASH_TABLE = "7255371f-3a3b-4b04-927b-1da6efa8d454"
_METADATA = "dc886566-984a-4798-a75e-5585a7bf67cc"
SECTIONS = ((0x800000, 0x9000, 1), (0x80A000, 0x1000, 2), (0x80B000, 0x1000, 3), (0x810000, 0x1000, 0x10))


def firmware_image(size: int = 8192) -> bytes:
    """``size`` bytes that end with a GUIDed footer, as OVMF's AmdSev build does."""
    metadata = struct.pack("<4sIII", b"ASEV", 16 + 12 * len(SECTIONS), 1, len(SECTIONS))
    metadata += b"".join(struct.pack("<III", *section) for section in SECTIONS)
    at = 1024  # from the end
    entries = _entry(_METADATA, struct.pack("<I", at)) + _entry(_HASH_TABLE, struct.pack("<II", HASH_TABLE_GPA, 0x400))
    entries += _entry(_RESET_BLOCK, struct.pack("<I", 0x80B004))
    table = entries + struct.pack("<H", len(entries) + 18) + UUID(_FOOTER).bytes_le
    body = bytearray(b"\x90" * size)
    body[size - 32 - len(table) : size - 32] = table
    body[size - at : size - at + len(metadata)] = metadata
    return bytes(body)


def _entry(guid: str, data: bytes) -> bytes:
    return data + struct.pack("<H", len(data) + 18) + UUID(guid).bytes_le
