"""Small OVMF-like images: arbitrary pages with a footer table and SEV metadata, every part replaceable."""

from __future__ import annotations

from struct import pack

from ovmf.footer import FOOTER, SEV_ES_RESET_BLOCK, SEV_HASH_TABLE, SEV_METADATA

Sections = list[tuple[int, int, int]]

AMDSEV_SECTIONS: Sections = [
    (0x800000, 0x9000, 1),
    (0x80A000, 0x3000, 1),
    (0x80D000, 0x1000, 2),
    (0x80E000, 0x1000, 3),
    (0x80F000, 0x1000, 4),
    (0x811000, 0x2000, 1),
    (0x810000, 0x1000, 0x10),
]
AP_EIP = 0x80B004
HASH_TABLE = 0x810C00
METADATA_FROM_END = 0x600


def entry(guid: bytes, data: bytes, length: int | None = None) -> bytes:
    """One footer entry; ``length`` overrides the true one."""
    return data + pack("<H", len(data) + 18 if length is None else length) + guid


def metadata(sections: Sections, *, signature: bytes = b"ASEV", version: int = 1, count: int | None = None) -> bytes:
    """A SEV metadata block; ``count`` overrides the true number of sections."""
    body = b"".join(pack("<III", *section) for section in sections)
    number = len(sections) if count is None else count
    return signature + pack("<III", 16 + len(body), version, number) + body


def standard_entries() -> list[bytes]:
    """What an image for measured boot has in its footer."""
    return [
        entry(SEV_ES_RESET_BLOCK, pack("<I", AP_EIP)),
        entry(SEV_HASH_TABLE, pack("<II", HASH_TABLE, 0x400)),
        entry(SEV_METADATA, pack("<I", METADATA_FROM_END)),
    ]


def image(
    entries: list[bytes] | None = None, block: bytes | None = None, *, size: int = 8192, total: int | None = None
) -> bytes:
    """An image of ``size`` bytes; ``total`` overrides the footer's table length."""
    parts = standard_entries() if entries is None else entries
    table = b"".join(parts)
    footer = pack("<H", len(table) + 18 if total is None else total) + FOOTER
    data = bytearray((7 * index + index // 256) & 0xFF for index in range(size))
    end = size - 32
    data[end - 18 : end] = footer
    data[end - 18 - len(table) : end - 18] = table
    block = metadata(AMDSEV_SECTIONS) if block is None else block
    start = size - METADATA_FROM_END
    data[start : start + len(block)] = block
    return bytes(data)
