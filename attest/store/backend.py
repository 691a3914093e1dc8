"""What differs between SQLite and PostgreSQL, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Engine


class Backend(Protocol):
    """One kind of database at one place."""

    plain_errors: tuple[type[Exception], ...]
    """Errors of the driver that may arrive without SQLAlchemy's wrapping."""
    lasting: bool
    """Whether a connection that was good stays so: nobody can end it from outside, so none needs to be tried first."""
    constraint_error: type[Exception]
    """That of a broken constraint among them."""

    @property
    def name(self) -> str:
        """How messages call the database; never with a password."""

    @property
    def path(self) -> Path | None:
        """Its file, where it is one."""

    def engine(self) -> Engine:
        """A new engine for this process."""

    def for_writing(self, connection: Connection, *, lasting: bool) -> Connection:
        """``connection`` with what a writing transaction needs."""

    def begin_write(self, connection: Connection, *, alone: bool, lasting: bool) -> None:
        """The first thing in a writing transaction: wait until no other one runs."""

    def for_reading(self, connection: Connection) -> Connection:
        """``connection`` with what a consistent snapshot needs."""

    def prepare(self) -> None:
        """Make the place for new tables. Raises StoreUnsupported where it is taken."""

    def check_place(self) -> None:
        """Raise StoreUnsupported where there is no database at all."""

    def is_no_text(self, error: BaseException | None) -> bool:
        """Whether a value was refused before it was sent: text with a NUL, which no row here can hold."""

    def check_durable(self, connection: Connection) -> None:
        """Raise StoreUnsupported where a transaction that returned could still be lost."""

    def copy_aside(self, suffix: str) -> Path | None:
        """A copy of what is committed, in a file beside it; ``None`` where that is the administrator's to make."""

    def is_foreign(self, error: BaseException | None) -> bool:
        """Whether the driver's ``error`` says that the tables are not ours."""
