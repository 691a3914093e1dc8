"""Savepoints of the driver's own: those of SQLAlchemy take three times as long as appending a record."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from attest.store import records
from attest.store.prepared import driver

_BEGIN, _END, _UNDO = "SAVEPOINT part", "RELEASE part", "ROLLBACK TO part"


class Parts:
    """A transaction in parts, each of which can be undone alone. The last one ends with the transaction."""

    def __init__(self, tx: Connection) -> None:
        self._tx, self._own = tx, driver(tx).cursor()
        # PostgreSQL takes both in one round trip, and cannot prepare two statements as one.
        together: dict[str, Any] = {"query": f"{_END}; {_BEGIN}", "prepare": False}
        self._next = together if tx.dialect.name == "postgresql" else None
        self._begun = False

    def begin(self) -> None:
        """The part before it, if there is one, stays."""
        if not self._begun:
            self._own.execute(_BEGIN)
            self._begun = True
        elif self._next is not None:
            self._own.execute(**self._next)
        else:
            self._own.execute(_END)
            self._own.execute(_BEGIN)

    def undo(self) -> None:
        """As if this part had written nothing."""
        self._own.execute(_UNDO)
        records.forget_end(self._tx)
