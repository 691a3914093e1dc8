"""Bars of printed pages: every decision in one of them, however long the time is."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta

import pytest

from attest.cli.audit_page import answer_page
from attest.cli.audit_tally import BARS, Tally
from tests.fakes.amd_pki import NOW


def tally(*days: date) -> Tally:
    found = Tally()
    for day in days:
        found.days.setdefault(day, Counter())["accepted"] += 1
    return found


@pytest.mark.parametrize(
    ("days", "unit", "bars", "first"),
    [
        (1, "day", 1, date(2026, 1, 1)),
        (BARS, "day", BARS, date(2026, 1, 1)),
        (BARS + 1, "week", 14, date(2025, 12, 29)),
        (365, "week", 53, date(2025, 12, 29)),
        (3 * 365, "month", 36, date(2026, 1, 1)),
        (20 * 365, "year", 20, date(2026, 1, 1)),
    ],
)
def test_a_bar_is_as_long_as_it_must_be_and_every_decision_is_in_one(
    days: int, unit: str, bars: int, first: date
) -> None:
    start = date(2026, 1, 1)
    found = tally(*(start + timedelta(days=number) for number in range(days)))
    got, spans = found.spans()
    assert (got, len(spans), next(iter(spans))) == (unit, bars, first)
    assert list(spans) == sorted(spans)
    assert sum(span["accepted"] for span in spans.values()) == days


def test_spans_without_a_decision_have_a_bar_of_nothing() -> None:
    unit, spans = tally(date(2026, 1, 31), date(2026, 12, 1)).spans()
    assert (unit, len(spans)) == ("week", 45)
    unit, spans = tally(date(2026, 1, 31), date(2028, 12, 1)).spans()
    assert (unit, len(spans), [start for start, found in spans.items() if found]) == (
        "month", 36, [date(2026, 1, 1), date(2028, 12, 1)]
    )  # fmt: skip


def test_of_centuries_the_last_years_are_shown() -> None:
    unit, spans = tally(date(1, 1, 1), date(9999, 12, 31)).spans()
    assert (unit, len(spans), next(iter(spans))) == ("year", BARS, date(9908, 1, 1))


def test_an_answer_s_page_shows_when_it_happened() -> None:
    rows = [{"number": n, "time": f"2026-03-{day:02}T12:00:00.000000Z"} for n, day in enumerate((1, 3, 3))]
    text = "".join(answer_page("Audit: releases", rows, ["value x"], NOW))
    assert "<h2>By day, 2026-03-01 to 2026-03-03</h2>" in text
    assert "3 from 2026-03-01 to 2026-03-03; at most 2 in one day" in text
    assert [f"<title>2026-03-0{day}: {count}</title>" in text for day, count in ((1, 1), (2, 0), (3, 2))] == [True] * 3


@pytest.mark.parametrize("rows", [[], [{"actor": "olga"}], [{"time": "<never>"}], [{"first": None}]])
def test_an_answer_without_times_has_no_such_chart(rows: list[dict[str, object]]) -> None:
    text = "".join(answer_page("Audit: who", rows, [], NOW))
    assert "<h2>By " not in text
    assert "<never>" not in text
