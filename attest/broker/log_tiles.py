"""The audit log as static files (C2SP tlog-tiles): a folder that any web server, or a memory stick, hands on.

Hash tiles and entry bundles never change once they are full, so an export writes what is missing; the checkpoint is
written last, so a reader never meets one whose tiles are not there yet. A record that is too long for a bundle (65,535
bytes) cannot stand in one: it is named, and the bundle is left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, select

from attest.audit.checkpoint import checkpoint_of
from attest.audit.note import Note
from attest.audit.tiles import HEIGHT, MAX_ENTRY, WIDTH, Tile, encode_entries, entries_path, tiles_of
from attest.broker.errors import ServiceMisconfigured
from attest.errors import AttestError
from attest.store import tree
from attest.store.columns import as_bytes
from attest.store.engine import Database
from attest.store.schema import audit


@dataclass(frozen=True, slots=True)
class Exported:
    """How many files were written, and the numbers of records that fit no bundle."""

    written: int
    too_long: tuple[int, ...]


def export_tiles(database: Database, note: Note, folder: Path) -> Exported:
    """Write the log of ``note`` to ``folder``. Raises ServiceMisconfigured where it cannot be written."""
    size, written, too_long = checkpoint_of(note).size, 0, []
    try:
        with database.read() as tx:
            for tile in tiles_of(size):
                written += _write_missing(folder / tile.path, tile_hashes, tx, tile)
                if tile.level:
                    continue
                try:
                    written += _write_missing(folder / entries_path(tile.number, tile.width), entry_bundle, tx, tile)
                except RecordsTooLong as exc:
                    too_long += exc.numbers
        _replace(folder / "checkpoint", note.encode())
    except OSError as exc:
        raise ServiceMisconfigured(f"tiles: {exc.filename or folder}: {exc.strerror}") from None
    return Exported(written + 1, tuple(too_long))


class RecordsTooLong(AttestError):
    """Records that no bundle can hold; ``numbers`` are theirs."""

    code = "audit.too-long"

    def __init__(self, numbers: list[int]) -> None:
        super().__init__(f"records {', '.join(map(str, numbers))}: too long for an entry bundle")
        self.numbers = numbers


def tile_hashes(tx: Connection, tile: Tile) -> bytes:
    """The tile's hashes, end to end. Raises TreeIncomplete."""
    first = tile.number * WIDTH
    wanted = [(HEIGHT * tile.level, first + at) for at in range(tile.width)]
    node = tree.nodes(tx, wanted)
    return b"".join(node(*key) for key in wanted)


def entry_bundle(tx: Connection, tile: Tile) -> bytes:
    """The records under a tile of level 0. Raises RecordsTooLong."""
    first = tile.number * WIDTH + 1
    query = select(audit.c.seq, audit.c.record).where(audit.c.seq >= first, audit.c.seq < first + tile.width)
    rows = [(row.seq, as_bytes(row.record)) for row in tx.execute(query.order_by(audit.c.seq))]
    long = [seq for seq, record in rows if len(record) > MAX_ENTRY]
    if long:
        raise RecordsTooLong(long)
    return encode_entries([record for _, record in rows])


def _write_missing(path: Path, make: Callable[[Connection, Tile], bytes], tx: Connection, tile: Tile) -> bool:
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, make(tx, tile))
    return True


def _replace(path: Path, data: bytes) -> None:
    """Whole or not at all, after a power failure too: a torn tile would never be written again."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
