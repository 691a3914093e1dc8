"""Numbers about the audit log that an index alone gives, however long the log is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, and_, bindparam, func, literal, select

from attest.audit.record import DECISION
from attest.store.schema import audit
from attest.store.times import to_micros

DAY = 86_400_000_000
"""Microseconds."""

_COUNT = (
    select(func.count())
    .select_from(audit)
    .where(
        # Written into the statement, not bound: only so do planners see that the index of decisions is enough.
        audit.c.kind == literal(DECISION, literal_execute=True),
        audit.c.outcome == bindparam("of"),
        audit.c.time >= bindparam("start"),
        audit.c.time < bindparam("end"),
    )
)

_LEVEL = audit.c.level.is_not(None)
_FLEET = (
    select(audit.c.chip, func.max(audit.c.seq).label("newest"), func.count().label("decisions"))
    .where(_LEVEL, audit.c.seq <= bindparam("upto"))
    .group_by(audit.c.chip)
    .subquery()
)
_LEVELS = (
    select(audit.c.level, func.count().label("chips"))
    .join(_FLEET, and_(audit.c.chip == _FLEET.c.chip, audit.c.seq == _FLEET.c.newest))
    .where(_LEVEL)
    .group_by(audit.c.level)
    .order_by(func.count().desc(), audit.c.level)
)


def decisions_by_day(tx: Connection, outcomes: Iterable[str], first: int, last: int) -> Iterator[tuple[int, str, int]]:
    """(day, outcome, how many decisions) for these outcomes and days, which count from 1970-01-01; nothing for zero.

    A count for each day and outcome walks a stretch of one index. Grouping by a computed day would sort every row
    instead: eighteen times slower over half a million.
    """
    for outcome in outcomes:
        for day in range(first, last + 1):
            span = {"of": outcome, "start": day * DAY, "end": (day + 1) * DAY}
            count = tx.scalar(_COUNT, span) or 0
            if count:
                yield day, outcome, count


class Chip(NamedTuple):
    """A chip by its newest decision, and how many there are about it."""

    chip: str
    newest: int
    decisions: int


def chips(tx: Connection, upto: int, before: int, limit: int) -> list[Chip]:
    """Chips by their newest decision among the records to ``upto``, newest first; those below ``before`` only.

    Where a chip's id is masked there is no chip to count.
    """
    query = select(_FLEET).where(_FLEET.c.newest < before).order_by(_FLEET.c.newest.desc()).limit(limit)
    return [Chip(*row) for row in tx.execute(query, {"upto": upto})]


def levels(tx: Connection, upto: int) -> list[tuple[str, int]]:
    """(Level, how many chips were at it in their newest decision among the records to ``upto``), most chips first."""
    return [(row.level, row.chips) for row in tx.execute(_LEVELS, {"upto": upto})]


def last_before(tx: Connection, when: datetime) -> int:
    """The number of the newest record that is older than ``when``; 0 where there is none."""
    query = select(audit.c.seq).where(audit.c.time < to_micros(when)).order_by(audit.c.time.desc()).limit(1)
    return tx.scalar(query) or 0


def kinds(tx: Connection) -> list[str]:
    """The kinds of records there are, by a skip through the index."""
    found: list[str] = []
    while True:
        query = select(func.min(audit.c.kind))
        following = tx.scalar(query.where(audit.c.kind > found[-1]) if found else query)
        if following is None:
            return found
        found.append(following)
