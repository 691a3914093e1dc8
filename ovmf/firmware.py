"""An OVMF image as the launch digest sees it."""

from __future__ import annotations

from hashlib import sha256

from ovmf.errors import FirmwareMalformed
from ovmf.footer import parse_footer
from ovmf.launch_context import START, extend_normal
from ovmf.snp_metadata import FOUR_GIB, PAGE, SectionTuple, parse_sections

MAX_FIRMWARE = 64 << 20
"""Largest image accepted, in bytes. Real ones have 2 to 16 MiB."""


class Layout:
    """What the digest needs of a firmware besides its pages: metadata sections (file order), the guest physical
    address of the boot hash table (``None``: the firmware has none), and where application processors start."""

    __slots__ = ("ap_eip", "hash_table_gpa", "sections")

    def __init__(self, sections: tuple[SectionTuple, ...], hash_table_gpa: int | None, ap_eip: int) -> None:
        self.sections = sections
        self.hash_table_gpa = hash_table_gpa
        self.ap_eip = ap_eip


class Firmware:
    """A parsed image, made by :meth:`from_bytes`.

    ``ld`` is GCTX.LD after the image's pages, 48 bytes (some tools call it the OVMF hash).
    """

    __slots__ = ("_data", "_sha256", "layout", "ld")

    def __init__(self, data: bytes, layout: Layout) -> None:
        self._data = data
        self._sha256: bytes | None = None
        self.layout = layout
        self.ld = extend_normal(START, FOUR_GIB - len(data), data)

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the file, 32 bytes: a name for it, no part of the launch digest; computed when first asked for."""
        if self._sha256 is None:
            self._sha256 = sha256(self._data).digest()
        return self._sha256

    @property
    def size(self) -> int:
        """Of the image, in bytes."""
        return len(self._data)

    @classmethod
    def from_bytes(cls, data: bytes) -> Firmware:
        """Parse a whole image and hash its pages, or raise :class:`FirmwareMalformed`."""
        if not 0 < len(data) <= MAX_FIRMWARE or len(data) % PAGE:
            raise FirmwareMalformed(
                f"firmware: size got {len(data)} bytes, want whole 4 KiB pages, at most {MAX_FIRMWARE >> 20} MiB"
            )
        footer = parse_footer(data)
        offset = footer.metadata_offset()
        sections = () if offset is None else parse_sections(data, offset)
        return cls(data, Layout(sections, footer.hash_table_gpa(), footer.reset_eip()))
