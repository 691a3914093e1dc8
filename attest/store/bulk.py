"""Inserting rows past what SQLAlchemy does for each of them.

SQLite's driver runs one prepared statement over all rows in C. PostgreSQL takes them by binary ``COPY``, a quarter of
the work of an ``INSERT`` with as many rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql

from attest.store.prepared import driver

_POSTGRES = postgresql.dialect()  # type: ignore[no-untyped-call]  # it has no annotations


def insert_rows(tx: Connection, table: Table, rows: Sequence[tuple[object, ...]]) -> None:
    """Insert ``rows``, each with a value for every column in the table's order, as the driver takes it."""
    if not rows:
        return
    if tx.dialect.name == "postgresql":
        _copy(driver(tx), table, rows)
    else:
        driver(tx).executemany(_insert(table), rows)


def _copy(connection: Any, table: Table, rows: Sequence[tuple[object, ...]]) -> None:
    statement, types = _copy_from(table)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)


@lru_cache
def _insert(table: Table) -> str:
    places = ", ".join("?" * len(table.columns))
    return f"INSERT INTO {table.name} ({_names(table)}) VALUES ({places})"  # noqa: S608  names of our own schema


@lru_cache
def _copy_from(table: Table) -> tuple[str, tuple[str, ...]]:
    """The statement, and the columns' types, which binary ``COPY`` does not convert."""
    types = (column.type.compile(_POSTGRES).lower().partition("(")[0] for column in table.columns)
    return f"COPY {table.name} ({_names(table)}) FROM STDIN (FORMAT BINARY)", tuple(types)


def _names(table: Table) -> str:
    return ", ".join(column.name for column in table.columns)
