"""Checking a log's folder of tiles: every byte follows from the signed checkpoint, or the first that does not is named.

Written by :mod:`attest.broker.log_tiles`, carried by anybody: a torn tile, a bundle of another log or a changed record
is found with the log's public key alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from attest.audit.checkpoint import Checkpoint, parse_checkpoint
from attest.audit.errors import NoteMalformed, ProofInvalid
from attest.audit.merkle import HASH_BYTES, leaf_hash, root_of
from attest.audit.note import MAX_NOTE, Verifier, verify_note
from attest.audit.tiles import HEIGHT, WIDTH, Tile, decode_entries, entries_path, node_from_tile, tiles_of
from attest.files import read_at_most

_LARGEST = WIDTH * (2 + 65535)


@dataclass(frozen=True, slots=True)
class FolderChecked:
    """What was checked. ``without_entries`` are bundles that are not there: records too long to stand in one."""

    checkpoint: Checkpoint
    tiles: int
    entries: int
    without_entries: tuple[str, ...]


def check_folder(folder: Path, log: Verifier) -> FolderChecked:
    """Raises NoteMalformed or ProofInvalid, naming the file."""
    point, note = parse_checkpoint(_read(folder / "checkpoint", MAX_NOTE))
    if point.origin != log.name or not verify_note(note, [log]):
        raise ProofInvalid(f"{folder / 'checkpoint'}: of the log {point.origin[:80]!r}, not signed by {log.name!r}")
    tiles = {(tile.level, tile.number): tile for tile in tiles_of(point.size)}
    held = {place: _tile(folder, tile) for place, tile in tiles.items()}
    for (level, number), data in held.items():
        if level:
            _check_upper(tiles[level, number], data, held)
    if root_of(point.size, _nodes(held)) != point.root:
        raise ProofInvalid(f"{folder}: the tiles are not those of the checkpoint: another root follows from them")
    entries, missing = 0, list[str]()
    for (level, number), data in held.items():
        if not level:
            path = entries_path(number, tiles[level, number].width)
            found = _check_bundle(folder / path, data)
            entries, missing = entries + found, missing + ([] if found else [path])
    return FolderChecked(point, len(held), entries, tuple(missing))


def _tile(folder: Path, tile: Tile) -> bytes:
    data = _read(folder / tile.path, WIDTH * HASH_BYTES)
    if len(data) != tile.width * HASH_BYTES:
        raise NoteMalformed(f"{folder / tile.path}: torn: {len(data)} bytes, want {tile.width * HASH_BYTES}")
    return data


def _check_upper(tile: Tile, data: bytes, held: dict[tuple[int, int], bytes]) -> None:
    """Each hash of a tile above the lowest is the root of one full tile below."""
    for place in range(tile.width):
        below = held[tile.level - 1, tile.number * WIDTH + place]
        if node_from_tile(below, HEIGHT, 0) != data[place * HASH_BYTES : (place + 1) * HASH_BYTES]:
            raise ProofInvalid(f"{tile.path}: hash {place} does not follow from the tile below it")


def _nodes(held: dict[tuple[int, int], bytes]) -> Callable[[int, int], bytes]:
    def node(level: int, index: int) -> bytes:
        tile_level, height = divmod(level, HEIGHT)
        first = index << height
        return node_from_tile(held[tile_level, first // WIDTH], height, first % WIDTH)

    return node


def _check_bundle(path: Path, hashes: bytes) -> int:
    if not path.exists():
        return 0
    try:
        entries = decode_entries(_read(path, _LARGEST))
    except NoteMalformed as exc:
        raise NoteMalformed(f"{path}: torn: {exc.message}") from None
    if b"".join(map(leaf_hash, entries)) != hashes:
        raise ProofInvalid(f"{path}: its records are not those of the tree")
    return len(entries)


def _read(path: Path, most: int) -> bytes:
    try:
        return read_at_most(path, most)
    except OSError as exc:
        raise NoteMalformed(f"{path}: {exc.strerror}") from None
