"""One file out of a FAT file system, by its path: enough to find the boot application in an EFI system partition.

Read only, FAT16 and FAT32, long names. A cluster chain is followed for as many clusters as the file's size needs (a
folder: at most 2 MiB, the format's limit), so a loop ends. FAT12, which no tool makes for a partition of a real size,
is refused.
Source: Microsoft, *FAT: General Overview of On-Disk Format* 1.03; ECMA-107.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ovmf.errors import DiskMalformed
from policy.wire import ByteReader

MAX_FILE = 512 << 20
_MAX_ENTRIES = 65536
_MAX_FOLDER = 32 * _MAX_ENTRIES
_FOLDER, _LABEL, _LONG = 0x10, 0x08, 0x0F


class _Entry(NamedTuple):
    name: str
    short: str
    folder: bool
    cluster: int
    size: int


class FatVolume:
    """A FAT file system in ``data``, checked when made. :class:`DiskMalformed` whenever it contradicts itself."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        reader = ByteReader(data[:512], "FAT boot sector", error=DiskMalformed)
        reader.skip(11, "jump and name")
        sector, self._per_cluster, reserved, fats = (
            reader.u16("bytes per sector"), reader.u8("sectors per cluster"), reader.u16("reserved sectors"),
            reader.u8("FATs"),
        )  # fmt: skip
        root_entries, small = reader.u16("root entries"), reader.u16("sectors")
        reader.skip(1, "media")
        fat_small = reader.u16("sectors per FAT")
        reader.skip(8, "geometry")
        total, fat_size = small or reader.u32("sectors"), fat_small
        if not fat_size:
            fat_size = int.from_bytes(data[36:40], "little")
        if sector not in (512, 1024, 2048, 4096) or self._per_cluster not in (1, 2, 4, 8, 16, 32, 64, 128):
            raise reader.fail(f"{self._per_cluster} sectors of {sector} bytes in a cluster")
        if not (1 <= fats <= 2 and reserved and fat_size) or total * sector > len(data):
            raise reader.fail(
                f"{fats} FATs of {fat_size} sectors, {total} sectors in all: want them in {len(data)} bytes"
            )
        self._cluster = sector * self._per_cluster
        self._fat = reserved * sector
        root = self._fat + fats * fat_size * sector
        root_size = -(-root_entries * 32 // sector) * sector
        self._start = root + root_size
        self._clusters = (total * sector - self._start) // self._cluster
        self._wide = self._clusters >= 65525
        if self._clusters < 4085 or self._wide != (root_entries == 0):
            raise reader.fail(f"{self._clusters} clusters, {root_entries} root entries: want FAT16 or FAT32")
        width = 4 if self._wide else 2
        if fat_size * sector < (self._clusters + 2) * width:
            raise reader.fail(f"FAT of {fat_size} sectors: too small for {self._clusters} clusters")
        self._root_cluster = int.from_bytes(data[44:48], "little") if self._wide else 0
        self._fixed_root = bytes(data[root : root + root_size])

    def read(self, path: str) -> bytes | None:
        """The file at ``path`` (``/`` between names, case does not count), ``None`` when there is none."""
        found = self._find(path)
        return None if found is None or found.folder else self._file(found)

    def holds(self, path: str) -> bool:
        """A file or folder has this path."""
        return self._find(path) is not None

    def _find(self, path: str) -> _Entry | None:
        table = self._folder(self._root_cluster) if self._wide else self._fixed_root
        *folders, last = path.strip("/").split("/")
        for name in folders:
            folder = _named(table, name)
            if folder is None or not folder.folder:
                return None
            table = self._folder(folder.cluster)
        return _named(table, last)

    def _folder(self, cluster: int) -> bytes:
        return self._chain(cluster, max(1, _MAX_FOLDER // self._cluster))

    def _file(self, entry: _Entry) -> bytes:
        if entry.size > min(MAX_FILE, self._clusters * self._cluster):
            raise DiskMalformed(
                f"FAT: {entry.name!r}: {entry.size} bytes, more than the volume or {MAX_FILE >> 20} MiB"
            )
        need = -(-entry.size // self._cluster)
        data = self._chain(entry.cluster, need, exact=True) if need else b""
        return data[: entry.size]

    def _chain(self, cluster: int, most: int, *, exact: bool = False) -> bytes:
        """The clusters from ``cluster`` on; ``exact``: just ``most`` of them, and there must be as many."""
        parts: list[memoryview] = []
        width, mask, end = (4, 0x0FFFFFFF, 0x0FFFFFF8) if self._wide else (2, 0xFFFF, 0xFFF8)
        while len(parts) < most and cluster < end:
            if not 2 <= cluster < self._clusters + 2:
                raise DiskMalformed(f"FAT: cluster {cluster}: want 2..{self._clusters + 1}")
            at = self._start + (cluster - 2) * self._cluster
            parts.append(self._data[at : at + self._cluster])
            at = self._fat + cluster * width
            cluster = int.from_bytes(self._data[at : at + width], "little") & mask
        if len(parts) == most and not exact and cluster < end:
            raise DiskMalformed(f"FAT: a folder has more than {most} clusters, or a loop")
        if exact and len(parts) < most:
            raise DiskMalformed(f"FAT: a file ends after {len(parts)} clusters, want {most}")
        return b"".join(parts)


def _named(table: bytes, name: str) -> _Entry | None:
    wanted = name.casefold()
    return next((e for e in _entries(table) if wanted in (e.name.casefold(), e.short.casefold())), None)


def _entries(table: bytes) -> Iterator[_Entry]:
    """Entries of a folder with their long names; a long name counts only right before its entry and complete."""
    long: dict[int, bytes] = {}
    for at in range(0, min(len(table), 32 * _MAX_ENTRIES), 32):
        raw = table[at : at + 32]
        if raw[0] == 0:
            return
        if raw[0] != 0xE5 and raw[11] & 0x3F == _LONG:
            if raw[0] & 0x40:
                long = {}
            long[raw[0] & 0x3F] = raw[1:11] + raw[14:26] + raw[28:32]
            continue
        if raw[0] != 0xE5 and not raw[11] & _LABEL:
            yield _entry(raw, long)
        long = {}


def _entry(raw: bytes, long: dict[int, bytes]) -> _Entry:
    stem, extension = (part.decode("latin-1").rstrip(" ") for part in (raw[:8], raw[8:11]))
    short = f"{stem}.{extension}" if extension else stem
    name = short
    if long and sorted(long) == list(range(1, len(long) + 1)):
        units = b"".join(long[number] for number in sorted(long))
        name = units.decode("utf-16-le", "replace").split("\0", 1)[0]
    cluster = int.from_bytes(raw[26:28], "little") | int.from_bytes(raw[20:22], "little") << 16
    return _Entry(name, short, bool(raw[11] & _FOLDER), cluster, int.from_bytes(raw[28:32], "little"))
