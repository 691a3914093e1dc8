"""Work that one replica does for all: whoever holds the lease, until it ends or another one takes it over."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from attest.store.schema import settings
from attest.store.times import from_micros, to_micros


def take(tx: Connection, name: str, holder: str, now: datetime, until: datetime) -> bool:
    """Whether ``holder`` has the lease from now ``until``; a writing transaction. One that another one holds and that
    has not ended is left alone.
    """
    row = f"lease.{name}"
    held = tx.scalar(select(settings.c.value).where(settings.c.name == row))
    if held is not None:
        end, _, other = held.partition(" ")
        if other != holder and now < from_micros(int(end)):
            return False
        tx.execute(delete(settings).where(settings.c.name == row))
    tx.execute(insert(settings).values(name=row, value=f"{to_micros(until)} {holder}"))
    return True
