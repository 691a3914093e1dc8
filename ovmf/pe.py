"""Authenticode digest of a PE image, as UEFI firmware measures it, and what else of a PE prediction needs.

The digest covers the file without CheckSum (4 bytes of the optional header), without the certificate table's entry in
the data directory (8 bytes) and without that table: headers first, then sections in order of their place in the file,
then what follows the last section. edk2 adds no padding to a size that is no multiple of 8; tools that sign do, so
their digest differs for such a file. Sources: Microsoft, *Windows Authenticode Portable Executable Signature Format*;
*PE Format*; edk2 ``SecurityPkg/Library/DxeTpm2MeasureBootLib`` (``MeasurePeImageAndExtend``).
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from ovmf.errors import PeMalformed
from policy.wire import ByteReader

_HEADERS = 4096 + 64 * 1024
_MAX_SECTIONS = 256
_PE32, _PE32_PLUS = 0x10B, 0x20B
_SECURITY = 4


class PeSection(NamedTuple):
    """One section: its name, where its bytes are in the file, and its size in memory (less than in the file when the
    end is padding)."""

    name: str
    offset: int
    size: int
    virtual_size: int


class PeImage(NamedTuple):
    """The places of a PE image: ``checksum`` and ``security`` are offsets of the two fields left out (``security`` is
    ``None`` when the directory is too short to have one), ``certificates`` is the table's (offset, size) or (0, 0)."""

    checksum: int
    security: int | None
    headers: int
    sections: tuple[PeSection, ...]
    certificates: tuple[int, int]

    def named(self, name: str) -> PeSection | None:
        """The only section of that name, ``None`` if there is none or more than one."""
        found = [section for section in self.sections if section.name == name]
        return found[0] if len(found) == 1 else None


def parse_pe(data: bytes) -> PeImage:
    """The places, or :class:`PeMalformed`: no PE, parts outside the file, or sections that overlap.

    Firmware accepts overlaps that a loader never would; their digest is ambiguous, so they are refused here.
    """
    start = _start(data)
    reader = ByteReader(data[start : start + _HEADERS], "PE image", error=PeMalformed, base=start)
    if reader.take(4, "signature") != b"PE\0\0":
        raise reader.fail(f"signature at 0x{start:X}: want PE")
    reader.skip(2, "machine")
    count = reader.u16("section count")
    reader.skip(12, "time and symbols")
    optional = reader.u16("optional header size")
    reader.skip(2, "characteristics")
    if not 1 <= count <= _MAX_SECTIONS:
        raise reader.fail(f"section count: got {count}, want 1..{_MAX_SECTIONS}")
    begin = start + reader.offset
    header = ByteReader(reader.take(optional, "optional header"), "PE optional header", error=PeMalformed, base=begin)
    checksum, security, headers, certificates = _optional(header, begin)
    sections = tuple(_section(reader) for _ in range(count))
    end = start + reader.offset
    image = PeImage(checksum, security, headers, sections, certificates)
    _check(image, end, len(data))
    return image


def _start(data: bytes) -> int:
    reader = ByteReader(data[:64], "PE image", error=PeMalformed)
    if reader.take(2, "DOS magic") != b"MZ":
        raise reader.fail(f"DOS magic: got {data[:2].hex()}, want 4d5a (MZ)")
    reader.skip(58, "DOS header")
    return reader.u32("PE header offset")


def _optional(header: ByteReader, begin: int) -> tuple[int, int | None, int, tuple[int, int]]:
    magic = header.u16("magic")
    if magic not in (_PE32, _PE32_PLUS):
        raise header.fail(f"magic: got 0x{magic:X}, want 0x10B or 0x20B")
    header.skip(58, "standard and first Windows fields")
    headers = header.u32("size of headers")
    checksum = begin + header.offset
    header.skip(4, "checksum")
    header.skip(24 if magic == _PE32 else 40, "subsystem, stack and heap")
    directories = header.u32("directory count")
    if directories > 16 or header.remaining < 8 * directories:
        raise header.fail(f"directory count: got {directories}, want at most 16 that fit its size")
    if directories <= _SECURITY:
        return checksum, None, headers, (0, 0)
    header.skip(8 * _SECURITY, "directories")
    security = begin + header.offset
    return checksum, security, headers, (header.u32("certificate table offset"), header.u32("certificate table size"))


def _section(reader: ByteReader) -> PeSection:
    name = reader.take(8, "section name").rstrip(b"\0").decode("latin-1")
    virtual = reader.u32("virtual size")
    reader.skip(4, "virtual address")
    size, offset = reader.u32("raw size"), reader.u32("raw offset")
    reader.skip(16, "relocations and characteristics")
    return PeSection(name, offset, size, virtual)


def _check(image: PeImage, end: int, size: int) -> None:
    if not end <= image.headers <= size:
        raise PeMalformed(f"PE image: size of headers: got {image.headers}, want {end}..{size}")
    reached = image.headers
    for section in _hashed(image):
        if not reached <= section.offset <= section.offset + section.size <= size:
            raise PeMalformed(
                f"PE image: section {section.name!r} at 0x{section.offset:X}, {section.size} bytes: want it after "
                f"0x{reached:X} and within {size} bytes"
            )
        reached = section.offset + section.size
    offset, length = image.certificates
    if length and not (reached <= offset and offset + length == size):
        raise PeMalformed(f"PE image: certificate table at 0x{offset:X}, {length} bytes: want it at the end of {size}")


def _hashed(image: PeImage) -> list[PeSection]:
    return sorted((section for section in image.sections if section.size), key=lambda section: section.offset)


def authenticode(data: bytes, algorithm: str = "sha384") -> bytes:
    """The Authenticode digest (48 bytes for SHA-384) of a whole file, or :class:`PeMalformed`."""
    image = parse_pe(data)
    view, digest = memoryview(data), hashlib.new(algorithm)
    digest.update(view[: image.checksum])
    if image.security is None:
        digest.update(view[image.checksum + 4 : image.headers])
    else:
        digest.update(view[image.checksum + 4 : image.security])
        digest.update(view[image.security + 8 : image.headers])
    covered = image.headers
    for section in _hashed(image):
        digest.update(view[section.offset : section.offset + section.size])
        covered += section.size
    digest.update(view[covered : len(data) - image.certificates[1]])
    return digest.digest()
