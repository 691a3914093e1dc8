"""A unified kernel image out of a real stub: sections behind the stub's own, as ``ukify`` puts them."""

from __future__ import annotations

import struct

_LOADED = 0x40000040  # initialized data, readable


def unified(stub: bytes, parts: dict[str, bytes]) -> bytes:
    """``stub`` (a PE image with room in its table of sections) with these sections."""
    image = bytearray(stub)
    start = int.from_bytes(image[0x3C:0x40], "little")
    count, optional = struct.unpack_from("<H12xH", image, start + 6)
    table = start + 24 + optional
    in_memory, in_file = struct.unpack_from("<II", image, start + 56)
    end = max(sum(struct.unpack_from("<II", image, table + 40 * index + 8)) for index in range(count))
    for name, data in parts.items():
        address, offset = -(-end // in_memory) * in_memory, -(-len(image) // in_file) * in_file
        size = -(-len(data) // in_file) * in_file
        image += bytes(offset - len(image)) + data.ljust(size, b"\0")
        place = (name.encode(), len(data), address, size, offset, 0, 0, 0, _LOADED)
        struct.pack_into("<8sIIIIIIII", image, table + 40 * count, *place)
        count, end = count + 1, address + len(data)
    struct.pack_into("<H", image, start + 6, count)
    struct.pack_into("<I", image, start + 80, -(-end // in_memory) * in_memory)
    return bytes(image)
