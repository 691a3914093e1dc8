"""Statements that run for every guest, past what SQLAlchemy does anew for each run.

They are written as all others are, and SQLAlchemy compiles them, once for each kind of database; then the driver runs
the text in the caller's transaction. That is a fifth of the processor time of ``Connection.execute``. Values are what
the driver takes and rows what it gives: nothing is converted in between, so a boolean of SQLite is 0 or 1.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Dialect, Select
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.elements import TextClause

Values = Mapping[str, object]
_NONE: Values = {}


@dataclass(frozen=True, slots=True)
class _Text:
    """A statement for one kind of database. ``order``: names by place, ``None`` where the driver wants names."""

    text: str
    order: tuple[str, ...] | None
    given: dict[str, object]

    def values(self, values: Values) -> Any:
        known = {**self.given, **values} if self.given else values
        return known if self.order is None else tuple([known[name] for name in self.order])


class Prepared:
    """One statement. ``columns`` are those an INSERT gives values for; other values are bound by name."""

    def __init__(self, statement: Select[Any] | UpdateBase | TextClause, columns: Sequence[str] | None = None) -> None:
        self._statement, self._columns = statement, columns
        self._texts: dict[str, _Text] = {}
        names = [column.name for column in statement.selected_columns] if isinstance(statement, Select) else []
        self._row = _row_of(names)

    def first(self, tx: Connection, values: Values = _NONE) -> Any:
        """The first row of a query, its columns by name, or ``None``."""
        found = self._run(tx, values).fetchone()
        return None if found is None else self._row._make(found)

    def change(self, tx: Connection, values: Values) -> int:
        """How many rows an INSERT, UPDATE or DELETE changed."""
        return int(self._run(tx, values).rowcount)

    def change_all(self, tx: Connection, many: Iterable[Values]) -> None:
        """The same statement once for each of ``many``."""
        text = self._text(tx.dialect)
        driver(tx).cursor().executemany(text.text, [text.values(values) for values in many])

    def _run(self, tx: Connection, values: Values) -> Any:
        text = self._text(tx.dialect)
        return driver(tx).execute(text.text, text.values(values))

    def _text(self, dialect: Dialect) -> _Text:
        found = self._texts.get(dialect.name)
        if found is None:
            found = self._texts[dialect.name] = _compiled(self._statement, dialect, self._columns)
        return found


def _row_of(names: Sequence[str]) -> Any:
    return namedtuple("Row", names)


def driver(tx: Connection) -> Any:
    """The driver's own connection, in whose transaction ``tx`` is; :class:`Database` translates its errors too."""
    return tx.connection.driver_connection


def _compiled(statement: Any, dialect: Dialect, columns: Sequence[str] | None) -> _Text:
    compiled = statement.compile(dialect=dialect, column_keys=columns)
    order = compiled.positiontup
    given = {name: value for name, value in compiled.params.items() if value is not None}
    return _Text(str(compiled), None if order is None else tuple(order), given)
