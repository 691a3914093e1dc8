"""Opening the database and running transactions in it.

SQLite in WAL mode with ``synchronous=FULL``: a transaction that returned is on stable storage. Every writing
transaction begins with ``BEGIN IMMEDIATE``, so what it read is still true when it writes and two worker processes never
deadlock half-way. The engine belongs to the process that made it: after a fork the child makes its own, because a
SQLite connection must not cross a fork (sqlite.org, "How To Corrupt An SQLite Database File", section 2.6).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, insert, select
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import QueuePool

from attest.store.errors import StoreUnavailable, StoreUnsupported
from attest.store.schema import SCHEMA_VERSION, metadata, settings

BUSY_SECONDS = 5.0
_READ_ONLY = "cvm_read_only"


class Database:
    """One database file. Safe to create before a fork and to use after it, in parent and children alike."""

    def __init__(self, path: Path, *, busy_seconds: float = BUSY_SECONDS) -> None:
        self.path = path
        self._busy_seconds = busy_seconds
        self._engine: Engine | None = None
        self._pid = 0

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may write. Durable when the block has ended; rolled back when it raised.

        Raises:
            StoreUnavailable: locked for longer than the busy time, disk full, read-only, I/O error.
        """
        with _translated(self.path), self._own_engine().begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent snapshot to read from. Raises StoreUnavailable as :meth:`write` does."""
        with _translated(self.path), self._own_engine().connect() as plain:
            connection = plain.execution_options(**{_READ_ONLY: True})
            with connection.begin():
                yield connection

    def create(self) -> None:
        """Make the file (mode 0600) and its tables. Raises StoreUnsupported if the file exists."""
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            raise StoreUnsupported(f"database {self.path}: exists already, want a new file") from None
        except OSError as exc:
            raise StoreUnavailable(f"database {self.path}: cannot be made: {exc.strerror}") from None
        with self.write() as connection:
            metadata.create_all(connection)
            for name, value in (("schema", str(SCHEMA_VERSION)), ("generation", "1")):
                connection.execute(insert(settings).values(name=name, value=value))

    def check(self) -> None:
        """Raise unless the file is a database of this release's schema."""
        if not self.path.is_file():
            raise StoreUnsupported(f"database {self.path}: not found", hint="attest init makes one")
        try:
            with self.read() as connection:
                found = connection.scalar(select(settings.c.value).where(settings.c.name == "schema"))
        except StoreUnavailable as exc:
            if "no such table" in exc.message or "not a database" in exc.message:
                raise StoreUnsupported(f"database {self.path}: not a database of this service") from None
            raise
        if found != str(SCHEMA_VERSION):
            raise StoreUnsupported(f"database {self.path}: schema {found}, want {SCHEMA_VERSION}")

    def close(self) -> None:
        """Close this process's connections."""
        if self._engine is not None and self._pid == os.getpid():
            self._engine.dispose()
        self._engine = None

    def _own_engine(self) -> Engine:
        if self._engine is None or self._pid != os.getpid():
            if self._engine is not None:
                self._engine.dispose(close=False)  # the parent's connections are the parent's to close
            self._engine = _engine(self.path, self._busy_seconds)
            self._pid = os.getpid()
        return self._engine


def _engine(path: Path, busy_seconds: float) -> Engine:
    def connect() -> sqlite3.Connection:
        uri = f"{path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, timeout=busy_seconds, isolation_level=None, check_same_thread=False)
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "trusted_schema=OFF",
            "secure_delete=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=2, max_overflow=8)
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    read_only: Any = connection.get_execution_options().get(_READ_ONLY)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (OperationalError, sqlite3.OperationalError) as exc:
        raise StoreUnavailable(f"database {path}: {_cause(exc)}") from None
    except (DBAPIError, sqlite3.DatabaseError) as exc:
        if isinstance(exc, (sqlite3.IntegrityError,)) or isinstance(getattr(exc, "orig", None), sqlite3.IntegrityError):
            raise
        raise StoreUnavailable(f"database {path}: {_cause(exc)}") from None


def _cause(exc: Exception) -> str:
    return str(getattr(exc, "orig", None) or exc)
