"""Numbers about the audit log that an index alone gives, however long the log is."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, func, select

from attest.store.schema import audit
from attest.store.times import to_micros

DAY = 86_400_000_000
"""Microseconds."""


def outcomes_by_day(tx: Connection, kind: str, since: datetime) -> list[tuple[int, str, int]]:
    """(day since 1970-01-01, outcome, how many) of the records of ``kind`` from ``since`` on; by an index alone."""
    day = (audit.c.time - audit.c.time % DAY) / DAY
    query = (
        select(day, audit.c.outcome, func.count())
        .where(audit.c.kind == kind, audit.c.time >= to_micros(since))
        .group_by(day, audit.c.outcome)
    )
    return [(int(number), outcome, count) for number, outcome, count in tx.execute(query)]


def kinds(tx: Connection) -> list[str]:
    """The kinds of records there are, by a skip through the index."""
    found: list[str] = []
    while True:
        query = select(func.min(audit.c.kind))
        following = tx.scalar(query.where(audit.c.kind > found[-1]) if found else query)
        if following is None:
            return found
        found.append(following)
