"""PostgreSQL, for several replicas of the service on one database.

Writing transactions take one advisory lock first, so they run one after the other in all replicas, as in SQLite.
Whoever waits longer than the busy time gets an error, as does whoever leaves a transaction open. A password never
stands in the address: libpq reads it from a ``passfile``, or there is none (peer authentication, client certificates).
Source: PostgreSQL manual, sections 9.28.10 "Advisory Lock Functions", 13.2 "Transaction Isolation", 34.1.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from attest.store.errors import StoreUnsupported
from attest.store.prepared import driver

try:
    import psycopg
except ImportError:
    raise StoreUnsupported(
        "database: this installation has no PostgreSQL driver", hint="pip install 'cvm[postgres]'"
    ) from None

_ONE_WRITER = "SELECT pg_advisory_xact_lock(4932973)"
_UNDEFINED_TABLE = "42P01"
_MUST_BE_ON = ("fsync", "full_page_writes", "synchronous_commit")


class Postgres:
    """A server's database, see :class:`attest.store.backend.Backend`."""

    plain_errors: tuple[type[Exception], ...] = (psycopg.Error,)
    constraint_error: type[Exception] = psycopg.IntegrityError
    lasting = False

    def __init__(self, address: str, busy_seconds: float, *, read_only: bool = False) -> None:
        self._url = database_url(address)
        self._read_only = read_only
        self._busy_milliseconds = max(1, int(busy_seconds * 1000))

    @property
    def name(self) -> str:
        """The address; it holds no password."""
        return str(self._url.set(drivername="postgresql"))

    @property
    def path(self) -> Path | None:
        """None: a server keeps it."""
        return None

    def engine(self) -> Engine:
        """Connections are tried before use, so a restarted server costs nobody a request."""
        options = " ".join(
            f"-c {name}={value}"
            for name, value in (
                ("lock_timeout", self._busy_milliseconds),
                ("statement_timeout", 12 * self._busy_milliseconds),
                ("idle_in_transaction_session_timeout", 12 * self._busy_milliseconds),
                ("synchronous_commit", "on"),
                ("timezone", "UTC"),
                ("default_transaction_read_only", "on" if self._read_only else "off"),
            )
        )
        arguments = {"options": options, "connect_timeout": max(2, self._busy_milliseconds // 1000)}
        return create_engine(
            self._url, isolation_level="READ COMMITTED",
            pool_size=2, max_overflow=8, pool_use_lifo=True, pool_pre_ping=True,
            pool_timeout=self._busy_milliseconds / 1000,
            connect_args={"application_name": "attest", **arguments},
        )  # fmt: skip

    def for_writing(self, connection: Connection, *, lasting: bool) -> Connection:
        """As the engine makes them: each statement sees what was committed before it, and the lock makes that all there
        is. An isolation level of its own would be set and taken back around each transaction.
        """
        return connection

    def begin_write(self, connection: Connection, *, alone: bool, lasting: bool) -> None:
        """Wait for the one lock. What need not last is flushed a moment later, in order, or with what has to."""
        if not lasting:
            driver(connection).execute("SET LOCAL synchronous_commit = off")
        if alone:
            driver(connection).execute(_ONE_WRITER)

    def for_reading(self, connection: Connection) -> Connection:
        """A snapshot of the moment of the first statement."""
        return connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    def prepare(self) -> None:
        """The server's administrator has made the database."""

    def check_place(self) -> None:
        """Connecting tells."""

    def check_durable(self, connection: Connection) -> None:
        """Settings with which the server would lose what it acknowledged are refused."""
        for name in _MUST_BE_ON:
            found = connection.exec_driver_sql(f"SHOW {name}").scalar_one()
            if found == "off":
                raise StoreUnsupported(f"database {self.name}: {name} is off, so what it acknowledged can be lost")

    def copy_aside(self, suffix: str) -> Path | None:
        """``pg_dump`` makes copies."""
        return None

    def is_no_text(self, error: BaseException | None) -> bool:
        """The driver refuses it by itself, so no server has given the error a state."""
        return isinstance(error, psycopg.DataError) and error.sqlstate is None

    def is_foreign(self, error: BaseException | None) -> bool:
        """Our tables are not there."""
        return getattr(error, "sqlstate", None) == _UNDEFINED_TABLE


def database_url(address: str) -> URL:
    """The address for the driver, or :class:`StoreUnsupported`: a password in it would end up in logs and listings."""
    try:
        url = make_url(address)
    except ArgumentError:
        raise StoreUnsupported("database: want postgresql://user@host/name") from None
    if url.drivername != "postgresql" or not url.database:
        raise StoreUnsupported("database: want postgresql://user@host/name")
    if url.password is not None or "password" in url.query:
        raise StoreUnsupported(
            "database: a password in the address ends up in logs",
            hint="write it to a file of mode 0600 and add ?passfile=/path",
        )
    return url.set(drivername="postgresql+psycopg")
