"""The audit log over HTTP (C2SP tlog-tiles): the newest signed checkpoint, and the tiles under it.

Nothing beyond that checkpoint is given out: whoever holds it can check all that there is. Tiles are made from the
database as they are asked for, whole or not at all. A narrower tile than the one there is now is given too, since a
reader may hold an older checkpoint; its content never changes either.
"""

from __future__ import annotations

from attest.audit.checkpoint import checkpoint_of
from attest.audit.errors import NoteMalformed
from attest.audit.note import parse_note
from attest.audit.tiles import HEIGHT, WIDTH, Tile, tile_at
from attest.broker.errors import ResourceUnknown
from attest.broker.log_tiles import RecordsTooLong, entry_bundle, tile_hashes
from attest.store import checkpoints
from attest.store.engine import Database

ENTRIES = "entries"


def newest_checkpoint(database: Database) -> bytes:
    """The signed note. Raises ResourceUnknown before the first one."""
    with database.read() as tx:
        last = checkpoints.newest(tx)
    if last is None:
        raise ResourceUnknown("audit log: no checkpoint was signed yet")
    return last.note


def hash_tile(database: Database, path: str) -> bytes:
    """The hashes of ``<level>/<index>[.p/<width>]``. Raises ResourceUnknown, TreeIncomplete."""
    level, _, rest = path.partition("/")
    if not level.isascii() or not level.isdigit() or str(int(level)) != level:
        raise ResourceUnknown(f"audit log: {path[:80]!r} names no tile")
    with database.read() as tx:
        return tile_hashes(tx, _there(checkpoints.newest(tx), int(level), rest))


def entries_of(database: Database, path: str) -> bytes:
    """The records under ``<index>[.p/<width>]``. Raises ResourceUnknown, also where one is too long for a bundle."""
    with database.read() as tx:
        tile = _there(checkpoints.newest(tx), 0, path)
        try:
            return entry_bundle(tx, tile)
        except RecordsTooLong as exc:
            raise ResourceUnknown(f"audit log: {exc.message}") from None


def _there(last: checkpoints.StoredCheckpoint | None, level: int, path: str) -> Tile:
    """The tile, if all its hashes are under the newest checkpoint."""
    try:
        tile = tile_at(level, path)
    except NoteMalformed as exc:
        raise ResourceUnknown(f"audit log: {exc.message}") from None
    size = 0 if last is None else checkpoint_of(parse_note(last.note)).size
    if tile.number * WIDTH + tile.width > size >> (HEIGHT * level):
        raise ResourceUnknown(f"audit log: {tile.path}: not under the checkpoint of {size} records")
    return tile
