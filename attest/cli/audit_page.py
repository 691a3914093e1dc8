"""The printable page of ``attest audit export``: no script, nothing loaded from elsewhere, every text escaped."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from attest.audit.canonical import rfc3339
from attest.audit.record import DECISION
from attest.evidence.event_text import shown
from attest.web.dashboard.charts import WORDS, bars_chart, days_chart
from attest.web.dashboard.lookup import RESULTS, result_of

Rows = Iterator[dict[str, Any]]
DAYS = 92
"""The chart has room for so many days: the last ones of what was asked for."""
_COLUMNS = ("number", "time", "kind", "outcome", "subject", "actor", "vm", "chip", "measurement", "summary")


@dataclass(slots=True)
class Tally:
    """What the charts count."""

    kinds: Counter[str] = field(default_factory=Counter)
    days: dict[date, Counter[str]] = field(default_factory=dict)

    def add(self, row: dict[str, Any]) -> None:
        """Count one record."""
        self.kinds[row["kind"]] += 1
        if row["kind"] == DECISION:
            day = datetime.fromisoformat(row["time"]).date()
            self.days.setdefault(day, Counter())[result_of(row["outcome"])] += 1


def page(rows: Callable[[], Rows], now: datetime) -> Iterator[str]:
    """The page in pieces; ``rows()`` is read twice, once for the charts."""
    tally = Tally()
    for row in rows():
        tally.add(row)
    yield _head()
    yield _summary(tally, now)
    yield _table_head()
    for row in rows():
        cells = (Markup("<td>{}</td>").format(_visible(row, name)) for name in _COLUMNS)
        yield Markup("<tr>{}</tr>\n").format(Markup("").join(cells))
    yield "</tbody></table></section></main></body></html>\n"


def _head() -> str:
    style = (files("attest.web.dashboard") / "static" / "style.css").read_text("utf-8")
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{digest}'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Audit records</title>'
        f"<style>{style}</style></head>\n<body><main><h1>Audit records</h1>\n"
    )


def _summary(tally: Tally, now: datetime) -> str:
    parts = [Markup('<p class="lead">{} records, written {}.</p>\n').format(sum(tally.kinds.values()), rfc3339(now))]
    if tally.days:
        parts.append(_days(tally))
    if tally.kinds:
        kinds = [{"label": kind, "count": count} for kind, count in tally.kinds.most_common()]
        parts.append(Markup('<section class="card"><h2>Kinds</h2>{}</section>\n').format(bars_chart(kinds)))
    return Markup("").join(parts)


def _days(tally: Tally) -> Markup:
    last = max(tally.days)
    first = max(min(tally.days), last - timedelta(days=DAYS - 1))
    every = [first + timedelta(days=offset) for offset in range((last - first).days + 1)]
    days = [_day(day, tally.days.get(day, Counter())) for day in every]
    legend = ", ".join(f"{sum(day[name] for day in days)} {WORDS[name]}" for name in RESULTS)
    return Markup('<section class="card"><h2>Decisions by day, {} to {}</h2><p>{}</p>{}</section>\n').format(
        first.isoformat(), last.isoformat(), legend, days_chart(days)
    )


def _day(day: date, found: Counter[str]) -> dict[str, Any]:
    return {"day": day.isoformat(), **{name: found[name] for name in RESULTS}}


def _table_head() -> str:
    cells = (Markup('<th scope="col">{}</th>').format(name) for name in _COLUMNS)
    head = Markup("").join(cells)
    return Markup(
        '<section class="card"><table><caption>Oldest first</caption><thead><tr>{}</tr></thead><tbody>\n'
    ).format(head)


def _visible(row: dict[str, Any], name: str) -> str:
    value = row[name]
    emulated = " (emulated)" if name == "outcome" and row.get("emulated") else ""
    return "" if value is None else shown(str(value)) + emulated
