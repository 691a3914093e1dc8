"""Decisions over time for printed pages: a bar for each day, or for each week, month or year where that is too many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import islice

from attest.audit.record import DECISION
from attest.store.records import StoredRecord
from attest.web.dashboard.lookup import result_of

BARS = 92
"""The chart has room for so many bars; of more years than that it has the last ones."""
_BEGINS: dict[str, Callable[[date], date]] = {
    "day": lambda day: day,
    "week": lambda day: day - timedelta(days=day.weekday()),
    "month": lambda day: day.replace(day=1),
    "year": lambda day: day.replace(month=1, day=1),
}
"""The first day of the span that a day is in."""


@dataclass(slots=True)
class Tally:
    """What the charts count."""

    kinds: Counter[str] = field(default_factory=Counter)
    days: dict[date, Counter[str]] = field(default_factory=dict)

    def add(self, stored: StoredRecord) -> None:
        """Count one record."""
        self.kinds[stored.kind] += 1
        if stored.kind == DECISION:
            self.days.setdefault(stored.time.date(), Counter())[result_of(stored.outcome)] += 1

    def spans(self) -> tuple[str, dict[date, Counter[str]]]:
        """What a bar stands for (``day`` …), and decisions by result for each, by its first day, oldest first.

        At least one day must have been counted.
        """
        return spans_of(self.days)


def spans_of(days: Mapping[date, Counter[str]]) -> tuple[str, dict[date, Counter[str]]]:
    """What a bar stands for, and the counts of at least one day for each bar, by its first day, oldest first."""
    unit, starts = _starts(min(days), max(days))
    found: dict[date, Counter[str]] = {start: Counter() for start in reversed(starts)}
    for day, counted in days.items():
        if (start := _BEGINS[unit](day)) in found:
            found[start] += counted
    return unit, found


def _starts(first: date, last: date) -> tuple[str, list[date]]:
    """The smallest span of which there is room for all, and their first days, newest first; of years, for the last."""
    starts: list[date] = []
    for unit, begin in _BEGINS.items():
        starts = list(islice(_back(begin, first, last), BARS + 1))
        if len(starts) <= BARS:
            return unit, starts
    return "year", starts[:BARS]


def _back(begin: Callable[[date], date], first: date, last: date) -> Iterator[date]:
    """The first days of all spans from ``last`` back to ``first``."""
    start = begin(last)
    while True:
        yield start
        if start <= first:
            return
        start = begin(start - timedelta(days=1))
