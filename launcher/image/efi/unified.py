"""A unified kernel image: systemd's stub with the command line, initrd and kernel as further sections of its PE file.

Sources: UAPI.5 "Unified Kernel Image"; Microsoft, *PE Format*. Sections follow the stub's own in memory and in the
file, as ``ukify`` puts them; nothing in it depends on time or place.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from launcher.image.errors import ImageError
from ovmf.errors import PeMalformed
from ovmf.pe import parse_pe

OS_RELEASE: Final = b'ID=cvm\nPRETTY_NAME="cvm guest"\n'
_DATA: Final = 0x40000040
"""IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ"""
_ENTRY: Final = 40
_X86_64: Final = 0x8664


def unified(stub: bytes, parts: Sequence[tuple[str, bytes]]) -> bytes:
    """``stub`` with these sections, in this order; none may be empty. Raises ImageError."""
    start, count, table = _room(stub, parts)
    image = bytearray(stub)
    in_memory, in_file = struct.unpack_from("<II", image, start + 56)
    end = max(sum(struct.unpack_from("<II", image, table + _ENTRY * number + 8)) for number in range(count))
    for name, data in parts:
        address, offset = _aligned(end, in_memory), _aligned(len(image), in_file)
        size = _aligned(len(data), in_file)
        image += bytes(offset - len(image)) + data.ljust(size, b"\0")
        place = (name.encode("ascii"), len(data), address, size, offset, 0, 0, 0, _DATA)
        struct.pack_into("<8sIIIIIIII", image, table + _ENTRY * count, *place)
        count, end = count + 1, address + len(data)
    struct.pack_into("<H", image, start + 6, count)
    struct.pack_into("<I", image, start + 80, _aligned(end, in_memory))
    return bytes(image)


def _room(stub: bytes, parts: Sequence[tuple[str, bytes]]) -> tuple[int, int, int]:
    """Offset of the PE header, number of sections, offset of their table; the table has room for ``parts``."""
    try:
        found = parse_pe(stub)
    except PeMalformed as error:
        raise ImageError(f"EFI stub: {error.message}") from None
    start = int.from_bytes(stub[0x3C:0x40], "little")
    machine, count, optional = struct.unpack_from("<HH12xH", stub, start + 4)
    if machine != _X86_64:
        raise ImageError(f"EFI stub: for machine {machine:#x}, want {_X86_64:#x} (x86-64)")
    in_memory, in_file = struct.unpack_from("<II", stub, start + 56)
    if not 512 <= in_file <= in_memory <= 1 << 16 or in_memory & (in_memory - 1) or in_file & (in_file - 1):
        raise ImageError(f"EFI stub: sections aligned to {in_memory} and {in_file} bytes, want powers of 2 from 512 on")
    if found.certificates != (0, 0):
        raise ImageError("EFI stub: is signed, and sections after a signature would not be covered by it")
    for name, data in parts:
        if not data or len(name) > 8 or found.named(name) is not None:
            raise ImageError(f"EFI stub: section {name}: want one with contents, a name of 8 characters, and once")
    table = start + 24 + optional
    first = min((section.offset for section in found.sections if section.size), default=found.headers)
    if table + _ENTRY * (count + len(parts)) > min(found.headers, first):
        raise ImageError(f"EFI stub: its headers have no room for {len(parts)} more sections")
    return start, count, table


def _aligned(value: int, step: int) -> int:
    return -(-value // step) * step
