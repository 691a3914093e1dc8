"""Where a qcow2 image keeps its guest's first bytes, and what else its header names. Pure: the caller reads.

Source: QEMU ``docs/interop/qcow2.rst``; all numbers big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from policy.errors import MalformedInput
from policy.named import NamedTuple

MAGIC = b"QFI\xfb"
HEADER_BYTES = 112
_OFFSET = 0x00FF_FFFF_FFFF_FE00
_COMPRESSED, _ZERO = 1 << 62, 1
Read = Callable[[int, int], bytes]
"""(offset, length) -> bytes, fewer at the end of the file."""


class Qcow2Malformed(MalformedInput):
    """Not a qcow2 image, or one that contradicts itself."""

    code = "qcow2.malformed"


class Qcow2Header(NamedTuple):
    """``backing``: the file under this one as its header names it, or ``None``. ``size``: the guest's, bytes."""

    cluster_bits: int
    size: int
    l1_offset: int
    backing: str | None
    encrypted: bool
    external_data: bool
    extended_l2: bool


def parse_header(read: Read) -> Qcow2Header:
    """Decode the header. Raises :class:`Qcow2Malformed`."""
    data = read(0, HEADER_BYTES)
    if data[:4] != MAGIC or len(data) < HEADER_BYTES - 40:
        raise Qcow2Malformed(f"qcow2: begins with {data[:4].hex() or 'nothing'}, want {MAGIC.hex()}")
    version, name_at, name_size, bits, size, crypt, _l1, l1_at = struct.unpack(">IQIIQIIQ", data[4:48])
    if version not in (2, 3) or not 9 <= bits <= 21:
        raise Qcow2Malformed(f"qcow2: version {version}, clusters of 2^{bits} bytes: want version 2 or 3, 2^9 to 2^21")
    if name_size > 1023:
        raise Qcow2Malformed(f"qcow2: the backing file's name has {name_size} bytes, want at most 1023")
    incompatible = int.from_bytes(data[72:80], "big") if version == 3 else 0
    backing = read(name_at, name_size).decode("utf-8", "surrogateescape") if name_at and name_size else None
    return Qcow2Header(bits, size, l1_at, backing, crypt != 0, bool(incompatible & 4), bool(incompatible & 16))


def first_bytes(read: Read, count: int) -> bytes | None:
    """The guest's first ``count`` bytes (at most 512), ``None`` where this file does not hold them as they are: not
    written yet, in a backing or data file, compressed. Raises :class:`Qcow2Malformed`.
    """
    header = parse_header(read)
    if header.encrypted or header.external_data or header.extended_l2:
        return None
    table = _entry(read, header.l1_offset) & _OFFSET
    if not table:
        return None
    cluster = _entry(read, table)
    if cluster & (_COMPRESSED | _ZERO) or not cluster & _OFFSET:
        return None
    return read(cluster & _OFFSET, min(count, 512))


def _entry(read: Read, offset: int) -> int:
    data = read(offset, 8)
    if len(data) != 8:
        raise Qcow2Malformed(f"qcow2: a table at {offset:#x} lies behind the end of the file")
    return int.from_bytes(data, "big")
