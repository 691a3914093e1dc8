"""The whole database at one moment, as a SQLite file, whichever kind of database it came from or goes to.

From SQLite by its online backup interface, from PostgreSQL row by row in one REPEATABLE READ transaction; both while
others go on writing. So a backup of one kind can be restored into the other.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection, delete, func, insert, inspect, select, text

from attest.store import sqlite
from attest.store.engine import Database
from attest.store.errors import StoreUnsupported
from attest.store.schema import metadata, references, sessions, settings

_BATCH = 500
_SERIAL = (references,)
"""Tables whose rows the database numbers by itself: PostgreSQL's sequence does not notice rows that bring a number."""

Then = Callable[[Connection], None]


def take(database: Database, target: Path) -> None:
    """Write the database as it is now to the new file ``target``. Raises StoreUnavailable, StoreUnsupported."""
    if database.path is not None:
        sqlite.copy(database.path, target)
        return
    copy = Database(target)
    copy.create()
    try:
        with database.read() as source, copy.write() as sink:
            _copy_rows(source, sink)
    finally:
        copy.close()


def put(source: Path, target: Database, then: Then) -> None:
    """Fill a database that does not exist yet (SQLite) or has no tables (PostgreSQL) from the file ``source``.

    ``then`` runs in the same transaction: all of it is there, or nothing. Raises StoreUnsupported where there is a
    database already.
    """
    if target.path is not None:
        _put_file(source, target, target.path, then)
        return
    origin = Database(source)
    origin.check()
    with origin.read() as rows, target.write() as tx:
        if inspect(tx).has_table(settings.name):
            raise StoreUnsupported(f"database {target}: has tables already, want an empty one")
        target.make_tables(tx)
        _copy_rows(rows, tx)
        for table in _SERIAL:
            newest = tx.scalar(select(func.max(table.c.id))) or 0
            sequence = func.pg_get_serial_sequence(table.name, "id")
            tx.execute(select(func.setval(sequence, newest + 1, text("false"))))
        then(tx)
    origin.close()


def end_sessions(tx: Connection) -> None:
    """Forget every challenge: a nonce that was used after the snapshot must not be good again."""
    tx.execute(delete(sessions))


def _put_file(source: Path, target: Database, path: Path, then: Then) -> None:
    sqlite.copy(source, path)
    try:
        target.check()
        with target.write() as tx:
            then(tx)
    except BaseException:
        target.close()
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        raise


def _copy_rows(source: Connection, sink: Connection) -> None:
    sink.execute(delete(settings))
    for table in metadata.sorted_tables:
        rows = source.execute(select(table), execution_options={"yield_per": _BATCH})
        for batch in rows.mappings().partitions():
            sink.execute(insert(table), [dict(row) for row in batch])
