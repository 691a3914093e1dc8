"""Tiles (C2SP tlog-tiles): a tree as static files of up to 256 hashes, and bundles of up to 256 entries.

A tile at level L with number N holds the hashes of the complete subtrees of height 8 * L, numbers 256 * N to
256 * N + 255. Every node of the tree lies in a tile or follows from one by hashing inside it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from attest.audit.errors import NoteMalformed
from attest.audit.merkle import HASH_BYTES, node_hash

WIDTH = 256
HEIGHT = 8
MAX_LEVEL = 63
_PATH = re.compile(r"(?P<number>(?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?")
MAX_ENTRY = 0xFFFF
"""An entry's length is 16 bits in a bundle."""


class Tile(NamedTuple):
    """Which tile: ``width`` hashes of it exist (256: full)."""

    level: int
    number: int
    width: int

    @property
    def path(self) -> str:
        """``tile/<level>/<index>[.p/<width>]``."""
        return f"tile/{self.level}/{_number(self.number)}{_partial(self.width)}"


def entries_path(index: int, width: int) -> str:
    """``tile/entries/<index>[.p/<width>]``."""
    return f"tile/entries/{_number(index)}{_partial(width)}"


def tile_at(level: int, path: str) -> Tile:
    """The tile of a level by the rest of its path, ``x001/x234/067`` or ``x001/x234/067.p/8``.

    Raises :class:`NoteMalformed` for another spelling of it, and for what names none.
    """
    match = _PATH.fullmatch(path)
    if match is None or not 0 <= level <= MAX_LEVEL:
        raise NoteMalformed(f"tile: got {path[:80]!r} at level {level}, want a path such as x001/234 or x001/234.p/8")
    tile = Tile(level, int(match["number"].replace("x", "").replace("/", "")), int(match["width"] or WIDTH))
    if f"{_number(tile.number)}{_partial(tile.width)}" != path or (match["width"] and tile.width == WIDTH):
        raise NoteMalformed(f"tile: {path[:80]!r} is not how tile {tile.number} is written")
    return tile


def tiles_of(size: int, since: int = 0) -> Iterator[Tile]:
    """The tiles of a tree of ``size`` entries that a tree of ``since`` entries did not have."""
    level = 0
    while size >> (HEIGHT * level):
        count, before = size >> (HEIGHT * level), since >> (HEIGHT * level)
        for index in range(before // WIDTH, (count + WIDTH - 1) // WIDTH):
            width = min(WIDTH, count - index * WIDTH)
            if index * WIDTH + width > before:
                yield Tile(level, index, width)
        level += 1


def tile_and_place(level: int, index: int) -> tuple[int, int, int, int]:
    """Where node (level, index) is found: the tile's level and index, the node's height in the tile and its place."""
    tile_level, height = divmod(level, HEIGHT)
    first = index << height
    return tile_level, first // WIDTH, height, first % WIDTH


def node_from_tile(data: bytes, height: int, place: int) -> bytes:
    """The node over ``2 ** height`` hashes of a tile's bytes, beginning at ``place``."""
    hashes = [data[HASH_BYTES * at : HASH_BYTES * (at + 1)] for at in range(place, place + (1 << height))]
    if len(hashes[-1]) != HASH_BYTES:
        raise NoteMalformed(f"tile: {len(data)} bytes, want hash {place + (1 << height) - 1}")
    while len(hashes) > 1:
        hashes = [node_hash(hashes[at], hashes[at + 1]) for at in range(0, len(hashes), 2)]
    return hashes[0]


def nodes_from_tiles(read: Callable[[int, int], bytes]) -> Callable[[int, int], bytes]:
    """Nodes for :mod:`attest.audit.merkle` from ``read(level, index)``, which gives a tile's bytes, full or partial."""

    def node(level: int, index: int) -> bytes:
        tile_level, tile, height, place = tile_and_place(level, index)
        return node_from_tile(read(tile_level, tile), height, place)

    return node


def encode_entries(entries: Sequence[bytes]) -> bytes:
    """A bundle: each entry after its length, big-endian 16 bits."""
    if any(len(entry) > MAX_ENTRY for entry in entries):
        raise ValueError(f"an entry has more than {MAX_ENTRY} bytes")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def decode_entries(data: bytes) -> list[bytes]:
    """The entries of a bundle, or :class:`NoteMalformed`."""
    found: list[bytes] = []
    place = 0
    while place < len(data):
        end = place + 2 + int.from_bytes(data[place : place + 2], "big")
        if place + 2 > len(data) or end > len(data) or len(found) == WIDTH:
            raise NoteMalformed(f"entry bundle: entry {len(found)} at byte {place} does not fit")
        found.append(data[place + 2 : end])
        place = end
    return found


def _number(index: int) -> str:
    """1234067 becomes x001/x234/067."""
    parts = [f"{index % 1000:03}"]
    while index >= 1000:
        index //= 1000
        parts.append(f"x{index % 1000:03}")
    return "/".join(reversed(parts))


def _partial(width: int) -> str:
    return "" if width == WIDTH else f".p/{width}"
