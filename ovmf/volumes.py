"""The modules inside a firmware image: firmware volumes, files, sections, one level of compression.

Read to learn what kind of build an image is, never to measure it. A volume: 16 zero bytes, file system GUID, length
u64, ``_FVH``, attributes u32, header length u16, checksum u16, extended header offset u16. A file: GUID, check u16,
type u8, attributes u8, size u24, state u8 (and size u64 when attribute bit 0 is set), 8-byte aligned. A section: size
u24, type u8 (and size u32 when the first is 0xFFFFFF), 4-byte aligned. Sources: UEFI PI specification 1.8, volume 3,
sections 3.2 and 3.3; edk2 ``MdeModulePkg/Library/LzmaCustomDecompressLib``.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from typing import NamedTuple

from ovmf.errors import FirmwareMalformed
from ovmf.guid import efi_guid
from policy.wire import ByteReader

_FFS = (efi_guid("8c8ce578-8a3d-4f1c-9935-896185c32dd3"), efi_guid("5473c07a-3dcb-4dca-bd6f-1e9689e7349a"))
_LZMA = efi_guid("ee4e5898-3914-4259-9d6e-dc7bd79403cf")
_PAD_FILE = 0xF0
_PE32, _TE, _UI, _GUIDED, _VOLUME = 0x10, 0x12, 0x15, 0x02, 0x17

_MAX_UNPACKED = 24 << 20
_MAX_DEPTH = 6
_MAX_MODULES = 4096


class Module(NamedTuple):
    """One file of a volume: the volume's and its own GUID (16 bytes, EFI order; the volume's may be empty), its name
    and its PE32 or TE image (both empty if it has none)."""

    volume: bytes
    guid: bytes
    name: str
    image: bytes


def modules(firmware: bytes) -> tuple[Module, ...]:
    """All modules of an image, or :class:`FirmwareMalformed` when a volume contradicts itself.

    Bytes outside volumes are passed over, and volumes of other file systems (the variable store) are not opened.
    """
    found = []
    for module in _volumes_in(firmware, 0, [_MAX_UNPACKED]):
        found.append(module)
        if len(found) > _MAX_MODULES:
            raise FirmwareMalformed(f"firmware: more than {_MAX_MODULES} modules")
    return tuple(found)


def _volumes_in(data: bytes, depth: int, budget: list[int]) -> Iterator[Module]:
    """Every volume in ``data``, found by its signature at offset 40 of an 8-byte aligned header."""
    if depth > _MAX_DEPTH:
        raise FirmwareMalformed(f"firmware: volumes nested deeper than {_MAX_DEPTH}")
    at = 0
    while (at := data.find(b"_FVH", at)) >= 0:
        start = at - 40
        length = int.from_bytes(data[at - 8 : at], "little")
        header = int.from_bytes(data[at + 8 : at + 10], "little")
        if start < 0 or start % 8 or not 56 <= header <= length <= len(data) - start:
            at += 4
            continue
        volume = data[start : start + length]
        if volume[16:32] in _FFS:
            yield from _files(volume, header, depth, budget)
        at = start + length


def _files(volume: bytes, header: int, depth: int, budget: list[int]) -> Iterator[Module]:
    extended = int.from_bytes(volume[52:54], "little")
    at, own = header, b""
    if extended:
        reader = ByteReader(volume[extended:], "firmware: volume: extended header", error=FirmwareMalformed)
        own = reader.take(16, "name")
        at = extended + reader.u32("size")
    while (at := -(-at // 8) * 8) + 24 <= len(volume):
        reader = ByteReader(volume[at : at + 32], "firmware: volume: file header", error=FirmwareMalformed, base=at)
        guid = reader.take(16, "name")
        if guid == b"\xff" * 16:
            return
        reader.skip(2, "check")
        kind, attributes = reader.u8("type"), reader.u8("attributes")
        size, head = int.from_bytes(reader.take(3, "size"), "little"), 24
        if attributes & 1:
            reader.skip(1, "state")
            size, head = reader.u64("extended size"), 32
        if not head <= size <= len(volume) - at:
            raise FirmwareMalformed(f"firmware: volume: file at 0x{at:X}: size {size}, want {head}..{len(volume) - at}")
        if kind != _PAD_FILE:
            yield from _module(own, guid, volume[at + head : at + size], depth, budget)
        at += size


def _module(volume: bytes, guid: bytes, body: bytes, depth: int, budget: list[int]) -> Iterator[Module]:
    name, image = "", b""
    for kind, data in _sections(body):
        if kind in (_PE32, _TE):
            image = data
        elif kind == _UI:
            name = data.decode("utf-16-le", "replace").rstrip("\0")[:80]
        elif kind == _VOLUME:
            yield from _volumes_in(data, depth + 1, budget)
        elif kind == _GUIDED:
            yield from _guided(volume, guid, data, depth, budget)
    yield Module(volume, guid, name, image)


def _guided(volume: bytes, guid: bytes, section: bytes, depth: int, budget: list[int]) -> Iterator[Module]:
    """A section with a GUID: compressed ones are unpacked, others are not ours to read."""
    reader = ByteReader(section, "firmware: GUIDed section", error=FirmwareMalformed)
    kind, offset = reader.take(16, "GUID"), reader.u16("data offset")
    if kind == _LZMA and depth < _MAX_DEPTH:
        yield from _module(volume, guid, _unpacked(section[max(0, offset - 4) :], budget), depth + 1, budget)


def _unpacked(data: bytes, budget: list[int]) -> bytes:
    """LZMA with the classic 13-byte header; what all unpacked sections of an image take together is bounded."""
    try:
        decoder = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=32 << 20)
        plain = decoder.decompress(data, max_length=budget[0])
    except lzma.LZMAError as error:
        raise FirmwareMalformed(f"firmware: LZMA section: {error}") from None
    budget[0] -= len(plain)
    if not decoder.eof:
        raise FirmwareMalformed(f"firmware: LZMA section: cut off, or all unpack to over {_MAX_UNPACKED >> 20} MiB")
    return plain


def _sections(body: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, contents) of each section; the section header is left out."""
    at = 0
    while (at := -(-at // 4) * 4) + 4 <= len(body):
        size, kind, head = int.from_bytes(body[at : at + 3], "little"), body[at + 3], 4
        if size == 0xFFFFFF:
            size, head = int.from_bytes(body[at + 4 : at + 8], "little"), 8
        if not head <= size <= len(body) - at:
            return  # raw files have no sections, and what they hold may look like anything
        yield kind, body[at + head : at + size]
        at += size
