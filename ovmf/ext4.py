"""One file out of an ext4 file system, by its path: enough for what GRUB reads from ``/boot``.

Read only. Files and folders must have extents; the journal must be empty, as after an unmount, because what it holds
would count. A folder is read entry by entry, so it does not matter whether it has an index. Source: Linux,
``Documentation/filesystems/ext4`` (super block, group descriptors, inodes, extent tree, linear directories).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ovmf.errors import DiskMalformed
from policy.wire import ByteReader

MAX_FILE = 512 << 20
_MAX_FOLDER = 4 << 20
_SUPER, _MAGIC, _EXTENT_MAGIC = 1024, 0xEF53, 0xF30A
_ROOT_INODE = 2
_FOLDER, _FILE = 0x4000, 0x8000
_USES_EXTENTS = 0x80000
_MAX_DEPTH, _MAX_NODES = 5, 4096
_FILE_TYPE, _EXTENTS, _64_BIT, _FLEXIBLE_GROUPS, _CHECKSUM_SEED, _LARGE_FOLDER = 0x2, 0x40, 0x80, 0x200, 0x2000, 0x4000
_READABLE = _FILE_TYPE | _EXTENTS | _64_BIT | _FLEXIBLE_GROUPS | _CHECKSUM_SEED | _LARGE_FOLDER


class Ext4Unsupported(Exception):
    """A file system in order, of a kind that is not read here."""


class _Inode(NamedTuple):
    kind: int
    size: int
    extents: bool
    tree: bytes


class Ext4Volume:
    """An ext4 file system in ``data``, checked when made. ``uuid``: in lower case, as GRUB compares it.

    Raises :class:`DiskMalformed` whenever it contradicts itself and :class:`Ext4Unsupported`.
    """

    def __init__(self, data: memoryview) -> None:
        self._data = data
        block = bytes(data[_SUPER : _SUPER + 1024])
        reader = ByteReader(block, "ext4 super block", error=DiskMalformed, base=_SUPER)
        if len(block) < 1024 or int.from_bytes(block[56:58], "little") != _MAGIC:
            raise reader.fail("magic at 56: want 0xEF53")
        number = (int.from_bytes(block[at : at + 4], "little") for at in (0, 20, 24, 40, 96))
        self._inodes, self._first, shift, self._per_group, features = number
        if features & ~_READABLE or not features & _EXTENTS:
            raise Ext4Unsupported(f"features 0x{features:x}")
        self._inode_size = int.from_bytes(block[88:90], "little")
        self._descriptor = int.from_bytes(block[254:256], "little") if features & _64_BIT else 32
        if shift > 6 or self._first > 1 or not self._per_group or self._descriptor not in (32, 64):
            raise reader.fail(f"block size 2^{10 + shift}, {self._per_group} inodes in a group: want an ext4")
        if self._inode_size < 128 or self._inode_size & self._inode_size - 1 or self._inode_size > 1024 << shift:
            raise reader.fail(f"inodes of {self._inode_size} bytes: want a power of two from 128 on")
        self._block = 1024 << shift
        digits = block[104:120].hex()
        self.uuid = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    def read(self, path: str) -> bytes | None:
        """The file at ``path`` (``/`` between names), ``None`` when there is none."""
        found = self._find(path)
        return self._contents(found, MAX_FILE) if found is not None and found.kind == _FILE else None

    def holds(self, path: str) -> bool:
        """A file or folder has this path."""
        return self._find(path) is not None

    def _find(self, path: str) -> _Inode | None:
        found = self._inode(_ROOT_INODE)
        for name in path.encode("latin-1", "replace").strip(b"/").split(b"/"):
            if found.kind != _FOLDER:
                return None
            number = next((n for n, entry in _entries(self._contents(found, _MAX_FOLDER)) if entry == name), None)
            if number is None:
                return None
            found = self._inode(number)
            if found.kind not in (_FILE, _FOLDER):
                raise Ext4Unsupported("a link or device in the path")
        return found

    def _inode(self, number: int) -> _Inode:
        if not 1 <= number <= self._inodes:
            raise DiskMalformed(f"ext4: inode {number}: want 1..{self._inodes}")
        group, index = divmod(number - 1, self._per_group)
        at = (self._first + 1) * self._block + group * self._descriptor
        low, high = self._number(at + 8), self._number(at + 40) if self._descriptor == 64 else 0
        at = (high << 32 | low) * self._block + index * self._inode_size
        raw = self._bytes(at, 128)
        size = int.from_bytes(raw[4:8], "little") | int.from_bytes(raw[108:112], "little") << 32
        extents = bool(int.from_bytes(raw[32:36], "little") & _USES_EXTENTS)
        return _Inode(int.from_bytes(raw[:2], "little") & 0xF000, size, extents, raw[40:100])

    def _contents(self, inode: _Inode, most: int) -> bytes:
        if inode.size > min(most, len(self._data)):
            raise DiskMalformed(f"ext4: a file of {inode.size} bytes, more than the volume or {most}")
        if not inode.extents:
            raise Ext4Unsupported("a file without extents")
        parts, at = [], 0
        for block, count, place in self._extents(inode.tree, _MAX_DEPTH, iter(range(_MAX_NODES))):
            start = block * self._block
            if start >= inode.size:
                break
            if start < at or not count:
                raise DiskMalformed(f"ext4: an extent of {count} blocks at {start}, want it behind {at}")
            size = min(count * self._block, inode.size - start)
            parts += [bytes(start - at), bytes(size) if place is None else self._bytes(place * self._block, size)]
            at = start + size
        return b"".join(parts) + bytes(inode.size - at)

    def _extents(self, node: bytes, depth: int, nodes: Iterator[int]) -> Iterator[tuple[int, int, int | None]]:
        """(first block, blocks, place or ``None`` for blocks not written yet) in the order of the tree."""
        magic, count, level = (int.from_bytes(node[at : at + 2], "little") for at in (0, 2, 6))
        if next(nodes, None) is None:
            raise DiskMalformed(f"ext4: a file in more than {_MAX_NODES} extent nodes")
        if magic != _EXTENT_MAGIC or level > depth or 12 * (count + 1) > len(node):
            raise DiskMalformed(f"ext4: an extent node of {count} entries, depth {level}: want at most depth {depth}")
        for at in range(12, 12 * (count + 1), 12):
            raw = node[at : at + 12]
            block, size, high = (int.from_bytes(raw[a:b], "little") for a, b in ((0, 4), (4, 6), (6, 8)))
            if level:
                place = int.from_bytes(raw[4:8], "little") | int.from_bytes(raw[8:10], "little") << 32
                yield from self._extents(self._bytes(place * self._block, self._block), level - 1, nodes)
            elif size > 0x8000:
                yield block, size - 0x8000, None
            else:
                yield block, size, int.from_bytes(raw[8:12], "little") | high << 32

    def _number(self, at: int) -> int:
        return int.from_bytes(self._bytes(at, 4), "little")

    def _bytes(self, at: int, size: int) -> bytes:
        found = bytes(self._data[at : at + size])
        if len(found) != size:
            raise DiskMalformed(f"ext4: {size} bytes at 0x{at:X}: want them within {len(self._data)}")
        return found


def _entries(folder: bytes) -> Iterator[tuple[int, bytes]]:
    """(inode, name) of every used entry {inode u32, length u16, name length u8, type u8, name}."""
    at = 0
    while at + 8 <= len(folder):
        number, length, size = (int.from_bytes(folder[at + a : at + b], "little") for a, b in ((0, 4), (4, 6), (6, 7)))
        if length < 8 or length % 4 or 8 + size > length or at + length > len(folder):
            raise DiskMalformed(f"ext4: a folder's entry of {length} bytes with a name of {size}")
        if number:
            yield number, folder[at + 8 : at + 8 + size]
        at += length
