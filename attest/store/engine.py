"""Opening the database and running transactions in it: SQLite in a file, or PostgreSQL for several replicas.

On both a transaction that returned is on stable storage, and writing transactions run one after the other: what one
read is still true when it writes, so records are numbered without gaps and no rule changes between check and release.
SQLite does that by itself (``BEGIN IMMEDIATE``, :mod:`attest.store.sqlite`); PostgreSQL by a lock that every such
transaction takes first (:mod:`attest.store.postgres`). The engine belongs to the process that made it: after a fork the
child makes its own, because no connection of either database may cross a fork.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, insert, inspect, select
from sqlalchemy.exc import DBAPIError, IntegrityError

from attest.store import sqlite
from attest.store.backend import Backend
from attest.store.errors import StoreUnavailable, StoreUnsupported
from attest.store.schema import REVISION, metadata, settings, versions
from policy.errors import CvmError, MalformedInput

BUSY_SECONDS = 5.0
_READING, _LASTING, _PASSING = "reading", "lasting", "passing"


class Database:
    """One database. Safe to create before a fork and to use after it, in parent and children alike.

    ``where`` is a file (SQLite) or a ``postgresql://`` address without a password. ``busy_seconds`` is how long a
    transaction waits for another one. ``read_only`` makes connections that cannot write, whatever is asked of them;
    those of SQLite do not see stored keys or sessions either.
    """

    def __init__(self, where: Path | str, *, busy_seconds: float = BUSY_SECONDS, read_only: bool = False) -> None:
        self._backend = _backend(where, busy_seconds, read_only)
        self._engine: Engine | None = None
        self._pid = 0
        self._left = _no_connections()
        self._parents = self._left

    def __str__(self) -> str:
        return self._backend.name

    @property
    def path(self) -> Path | None:
        """The file; ``None`` for PostgreSQL."""
        return self._backend.path

    @contextmanager
    def write(self, *, alone: bool = True, lasting: bool = True) -> Iterator[Connection]:
        """A transaction that may write. Durable when the block has ended; rolled back when it raised.

        ``alone=False`` is for one statement that is right whatever else is being written: PostgreSQL then lets others
        write meanwhile. ``lasting=False`` is for what nobody was promised: it is durable with the next transaction that
        lasts, before it in any case, and only a machine that stops in between can lose it.

        Raises:
            StoreUnavailable: locked for longer than the busy time, disk full, read-only, I/O error, server gone.
        """
        kind = _LASTING if lasting else _PASSING
        with self._translated(), self._connection(kind) as connection, connection.begin():
            self._backend.begin_write(connection, alone=alone, lasting=lasting)
            yield connection

    @contextmanager
    def _connection(self, purpose: str) -> Iterator[Connection]:
        """One that an earlier transaction of its kind left in order, or else a new one."""
        engine = self._own_engine()
        kind = self._left[purpose]
        try:
            connection = kind.pop()
        except IndexError:
            plain = engine.connect()
            if purpose == _READING:
                connection = self._backend.for_reading(plain)
            else:
                connection = self._backend.for_writing(plain, lasting=purpose == _LASTING)
        in_order = False
        try:
            yield connection
            in_order = True
        finally:
            # One of each kind is left: the pool has no more than a few, and whoever reads must not use up a writer's.
            if in_order and self._backend.lasting and not kind:
                kind.append(connection)
            else:
                connection.close()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent snapshot to read from. Raises StoreUnavailable as :meth:`write` does."""
        with self._translated(), self._connection(_READING) as connection, connection.begin():
            yield connection

    def create(self) -> None:
        """Make the database's tables (SQLite: and its file, mode 0600). Raises StoreUnsupported if they exist."""
        self._backend.prepare()
        with self.write() as connection:
            if inspect(connection).has_table(settings.name):
                raise StoreUnsupported(f"database {self}: exists already, want a new one")
            self.make_tables(connection)

    def make_tables(self, tx: Connection) -> None:
        """The tables and the rows that say what they are, in the caller's writing transaction."""
        metadata.create_all(tx)
        versions.create(tx)
        tx.execute(insert(versions).values(version_num=REVISION))
        for name, value in (("schema", REVISION), ("generation", "1")):
            tx.execute(insert(settings).values(name=name, value=value))

    def check(self) -> None:
        """Raise unless this is a database of this release's revision that keeps what it acknowledged."""
        if (found := self.revision()) != REVISION:
            raise StoreUnsupported(
                f"database {self}: its tables are of revision {found}, want {REVISION}", hint=_way_out(found)
            )

    def revision(self) -> str:
        """The revision of its tables; a database from before migrations has a plain number.

        Raises StoreUnsupported where it is no database of ours, or not one that keeps what it acknowledged.
        """
        self._backend.check_place()
        with self.read() as connection:
            self._backend.check_durable(connection)
            if inspect(connection).has_table(versions.name):
                found = connection.scalar(select(versions.c.version_num))
            else:
                found = connection.scalar(select(settings.c.value).where(settings.c.name == "schema"))
        return str(found)

    def copy_aside(self, suffix: str) -> Path | None:
        """A copy of the file beside it, as of the last commit; ``None`` where a server keeps the database.

        Raises StoreUnsupported where there is a copy of that name already, StoreUnavailable where it cannot be made.
        """
        return self._backend.copy_aside(suffix)

    def close(self) -> None:
        """Close this process's connections."""
        if self._engine is not None and self._pid == os.getpid():
            for kind in self._left.values():
                while kind:
                    kind.pop().close()
            self._engine.dispose()
        self._engine = None

    def _own_engine(self) -> Engine:
        if self._engine is None or self._pid != os.getpid():
            if self._engine is not None:
                self._engine.dispose(close=False)  # the parent's connections are the parent's to close
                self._parents, self._left = self._left, _no_connections()  # held, for to forget one would close it
            self._engine = self._backend.engine()
            self._pid = os.getpid()
        return self._engine

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Whatever the database cannot do now is our error; a broken constraint is a defect and stays what it is."""
        try:
            yield
        except (IntegrityError, self._backend.constraint_error):
            raise
        except DBAPIError as exc:
            raise self._own_error(exc.orig) from None
        except self._backend.plain_errors as exc:
            raise self._own_error(exc) from None

    def _own_error(self, error: BaseException | None) -> CvmError:
        if self._backend.is_no_text(error):
            return MalformedInput("text with a NUL character: nothing is called so")
        if self._backend.is_foreign(error):
            return StoreUnsupported(f"database {self}: not a database of this service", hint="attest init makes one")
        return StoreUnavailable(f"database {self}: {str(error).strip()}")


def _no_connections() -> dict[str, deque[Connection]]:
    """Places for a connection that a transaction left in order, by what it was for."""
    return {purpose: deque() for purpose in (_READING, _LASTING, _PASSING)}


def _way_out(found: str) -> str:
    """Revisions begin with their number, in order."""
    number = found.partition("_")[0]
    if number.isdigit() and int(number) <= int(REVISION.partition("_")[0]):
        return "stop every replica, make a backup, then: attest db upgrade"
    return "a newer program made it: install that one, or restore the backup from before its upgrade"


def _backend(where: Path | str, busy_seconds: float, read_only: bool) -> Backend:
    if isinstance(where, Path):
        return sqlite.Sqlite(where, busy_seconds, read_only=read_only)
    from attest.store.postgres import Postgres  # its driver is an extra

    return Postgres(where, busy_seconds, read_only=read_only)
