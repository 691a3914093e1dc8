"""SQLite in WAL mode with ``synchronous=FULL`` for all that has to last.

Every writing transaction begins with ``BEGIN IMMEDIATE``, so two worker processes never deadlock half-way. A
connection must not cross a fork: sqlite.org, "How To Corrupt An SQLite Database File", section 2.6.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool

from attest.store.errors import StoreUnavailable, StoreUnsupported
from attest.store.prepared import driver

_READ_ONLY, _PASSING = "cvm_read_only", "cvm_passing"
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "trusted_schema=OFF", "secure_delete=ON")
_READ_ONLY_PRAGMAS = ("query_only=ON", "trusted_schema=OFF")
_HIDDEN = ("secrets", "sessions", "token_keys")
_READING = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_RECURSIVE)


class Sqlite:
    """A database file, see :class:`attest.store.backend.Backend`."""

    plain_errors: tuple[type[Exception], ...] = (sqlite3.DatabaseError,)
    constraint_error: type[Exception] = sqlite3.IntegrityError
    lasting = True

    def __init__(self, path: Path, busy_seconds: float, *, read_only: bool = False) -> None:
        self._path = path
        self._busy_seconds = busy_seconds
        self._read_only = read_only

    @property
    def name(self) -> str:
        """The file."""
        return str(self._path)

    @property
    def path(self) -> Path | None:
        """The file."""
        return self._path

    def engine(self) -> Engine:
        """With the pragmas that make it durable on every connection, or those that leave nothing but reading."""
        uri = f"{self._path.absolute().as_uri()}?mode={'ro' if self._read_only else 'rw'}"

        def connect() -> sqlite3.Connection:
            connection = sqlite3.connect(
                uri, uri=True, timeout=self._busy_seconds, isolation_level=None, check_same_thread=False
            )
            for pragma in _READ_ONLY_PRAGMAS if self._read_only else _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
            if self._read_only:
                connection.set_authorizer(_only_reading)
            return connection

        engine = create_engine(
            "sqlite://", creator=connect, poolclass=QueuePool, pool_size=2, max_overflow=8, pool_use_lifo=True
        )
        event.listen(engine, "begin", _begin)
        return engine

    def for_writing(self, connection: Connection, *, lasting: bool) -> Connection:
        """One whose transactions begin with the write lock, and end with a flush where they have to last.

        What is written without one is in the same journal, in order: the next flush takes it along.
        """
        return connection if lasting else connection.execution_options(**{_PASSING: True})

    def begin_write(self, connection: Connection, *, alone: bool, lasting: bool) -> None:
        """``BEGIN IMMEDIATE`` has done it."""

    def for_reading(self, connection: Connection) -> Connection:
        """One that begins without taking the write lock."""
        return connection.execution_options(**{_READ_ONLY: True})

    def prepare(self) -> None:
        """An empty file that only its owner can read."""
        _make(self._path)

    def copy_aside(self, suffix: str) -> Path | None:
        """By SQLite's backup interface, which reads a snapshot while others write; durable when it returns."""
        target = self._path.with_name(f"{self._path.name}.{suffix}")
        copy(self._path, target)
        return target

    def check_place(self) -> None:
        """The file is there: looking for a database must not make one."""
        if not self._path.is_file():
            raise StoreUnsupported(f"database {self._path}: not found", hint="attest init makes one")

    def check_durable(self, connection: Connection) -> None:
        """The pragmas see to it."""

    def is_no_text(self, error: BaseException | None) -> bool:
        """Any text will do."""
        return False

    def is_foreign(self, error: BaseException | None) -> bool:
        """No such table, or no SQLite file."""
        return "no such table" in str(error) or "not a database" in str(error)


def copy(path: Path, target: Path) -> None:
    """What is committed in the database ``path`` now, as the new file ``target``, while others go on writing.

    Raises StoreUnsupported where ``target`` exists, StoreUnavailable.
    """
    _make(target)
    try:
        uri = f"{path.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True)) as source, closing(sqlite3.connect(target)) as sink:
            source.backup(sink)
    except sqlite3.Error as exc:
        target.unlink(missing_ok=True)
        raise StoreUnavailable(f"database {target}: cannot be copied: {exc}") from None


def _make(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        raise StoreUnsupported(f"database {path}: exists already, want a new file") from None
    except OSError as exc:
        raise StoreUnavailable(f"database {path}: cannot be made: {exc.strerror}") from None


def _only_reading(action: int, first: str | None, second: str | None, database: str | None, by: str | None) -> int:
    """SQLite asks this about every step of every statement it compiles (``sqlite3_set_authorizer``)."""
    if action == sqlite3.SQLITE_READ:
        return sqlite3.SQLITE_DENY if first in _HIDDEN else sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_PRAGMA:  # the schema is looked at by pragmas
        return sqlite3.SQLITE_DENY if first == "query_only" else sqlite3.SQLITE_OK
    return sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY


def _begin(connection: Connection) -> None:
    options: Any = connection.get_execution_options()
    own = driver(connection)
    if options.get(_READ_ONLY):
        own.execute("BEGIN")
        return
    # Said each time: a connection may have been used for something else before.
    own.execute("PRAGMA synchronous=NORMAL" if options.get(_PASSING) else "PRAGMA synchronous=FULL")
    own.execute("BEGIN IMMEDIATE")
