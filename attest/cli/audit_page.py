"""The printable pages of ``attest audit export`` and ``ask``: no script, nothing loaded from elsewhere, every text
escaped. A row has a few columns; everything else it says stands as named facts in the last one, so that digests have
room on paper and a row is a block on a telephone.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from attest.audit.canonical import rfc3339
from attest.cli.audit_tally import Tally, spans_of
from attest.evidence.event_text import shown
from attest.web.dashboard.charts import WORDS, bars_chart, days_chart, times_chart
from attest.web.dashboard.lookup import RESULTS

_LEAD = ("number", "time", "first", "kind", "outcome")
"""What gets a column of its own, where a row has it."""
_FACTS = ("subject", "actor", "vm", "chip", "measurement", "summary")
_PROSE = ("summary", "message", "text", "kinds", "outcomes")


def page(tally: Tally, rows: Iterator[Mapping[str, Any]], now: datetime) -> Iterator[str]:
    """Records, in pieces: the charts of ``tally``, then ``rows``."""
    yield _head("Audit records")
    yield _summary(tally, now)
    lead = ("number", "time", "kind", "outcome")
    yield _table_head(lead, "Oldest first")
    for row in rows:
        yield _row(row, lead, _FACTS)
    yield _END


def answer_page(title: str, rows: Sequence[Mapping[str, Any]], asked: Sequence[str], now: datetime) -> Iterator[str]:
    """An answer: what was asked, charts of the outcomes or kinds and over time, a row for each finding."""
    yield _head(title)
    yield Markup('<p class="lead">{}; {} found, {}.</p>\n').format("; ".join(asked), len(rows), rfc3339(now))
    for name in ("outcome", "kind"):
        counts = Counter(str(row[name]) for row in rows if name in row)
        if counts:
            yield _bars(name.capitalize(), counts)
            break
    yield _times(rows)
    if rows:
        lead = tuple(name for name in rows[0] if name in _LEAD)
        yield _table_head(lead, "As the log has them")
        for row in rows:
            yield _row(row, lead, tuple(name for name in row if name not in lead))
        yield _END
    else:
        yield "</main></body></html>\n"


_END = "</tbody></table></section></main></body></html>\n"


def _head(title: str) -> str:
    style = (files("attest.web.dashboard") / "static" / "style.css").read_text("utf-8")
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{digest}'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>'
        f"{Markup.escape(title)}</title>"
        f"<style>{style}</style></head>\n<body><main><h1>{Markup.escape(title)}</h1>\n"
    )


def _summary(tally: Tally, now: datetime) -> str:
    parts = [Markup('<p class="lead">{} records, written {}.</p>\n').format(sum(tally.kinds.values()), rfc3339(now))]
    if tally.days:
        parts.append(_days(tally))
    if tally.kinds:
        parts.append(_bars("Kinds", tally.kinds))
    return Markup("").join(parts)


def _days(tally: Tally) -> Markup:
    unit, spans = tally.spans()
    bars = [_bar(start, found) for start, found in spans.items()]
    legend = ", ".join(f"{sum(bar[name] for bar in bars)} {WORDS[name]}" for name in RESULTS)
    first = max(next(iter(spans)), min(tally.days))
    return Markup('<section class="card"><h2>Decisions by {}, {} to {}</h2><p>{}</p>{}</section>\n').format(
        unit, first.isoformat(), max(tally.days).isoformat(), legend, days_chart(bars, unit)
    )


def _times(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """When what was found happened, or began; nothing for an answer without times."""
    days: dict[date, Counter[str]] = {}
    for row in rows:
        with suppress(ValueError):  # another service's answer may hold anything
            day = date.fromisoformat(str(row.get("time") or row.get("first"))[:10])
            days.setdefault(day, Counter())["found"] += 1
    if not days:
        return Markup("")
    unit, spans = spans_of(days)
    counts = [(start.isoformat(), found["found"]) for start, found in spans.items()]
    return Markup('<section class="card"><h2>By {}, {} to {}</h2>{}</section>\n').format(
        unit, min(days).isoformat(), max(days).isoformat(), times_chart(counts, unit)
    )


def _bar(day: date, found: Counter[str]) -> dict[str, Any]:
    return {"day": day.isoformat(), **{name: found[name] for name in RESULTS}}


def _bars(title: str, counts: Counter[str]) -> Markup:
    bars = [{"label": name, "count": count} for name, count in counts.most_common()]
    return Markup('<section class="card"><h2>{}</h2>{}</section>\n').format(title, bars_chart(bars))


def _table_head(lead: Sequence[str], caption: str) -> Markup:
    cells = Markup("").join(
        Markup('<th role="columnheader" scope="col">{}</th>').format(_words(name)) for name in (*lead, "details")
    )
    return Markup(
        '<section class="card report"><table role="table"><caption>{}</caption>'
        '<thead role="rowgroup"><tr role="row">{}</tr></thead><tbody role="rowgroup">\n'
    ).format(caption, cells)


def _row(row: Mapping[str, Any], lead: Sequence[str], facts: Sequence[str]) -> Markup:
    cells = [_cell(_words(name), _lead_text(row, name)) for name in lead]
    told = [name for name in facts if row.get(name) not in (None, "", [], {})]
    if row.get("subject") == row.get("measurement"):  # of a decision
        told = [name for name in told if name != "subject"]
    details = [Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(_words(name), _fact(row, name)) for name in told]
    # A row that says nothing more still has its cell, or the columns would not fit.
    cells.append(_cell("Details", Markup("<dl>{}</dl>").format(Markup("").join(details)) if details else "—"))
    return Markup('<tr role="row">{}</tr>\n').format(Markup("").join(cells))


def _cell(head: str, content: Markup | str) -> Markup:
    return Markup(
        '<td role="cell"><span class="head" aria-hidden="true">{}</span><span class="content">{}</span></td>'
    ).format(head, content)


def _lead_text(row: Mapping[str, Any], name: str) -> Markup | str:
    value = row[name]
    if name in ("time", "first") and value:
        day, _, rest = str(value).partition("T")  # the whole of it is in CSV and JSON
        return Markup('<time datetime="{}">{} {}</time>').format(_text(value), _text(day), _text(rest[:8]))
    return _text(value) + (" (emulated)" if name == "outcome" and row.get("emulated") else "")


def _fact(row: Mapping[str, Any], name: str) -> Markup | str:
    text = _text(row[name])
    return text if name in _PROSE else Markup("<code>{}</code>").format(text)  # code may break anywhere, words do not


def _text(value: Any) -> str:
    """Nothing in it steers a reader's screen; members of a list or object one after the other."""
    if isinstance(value, Mapping):
        return ", ".join(f"{shown(str(name))} {_text(member)}" for name, member in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return "" if value is None else shown(str(value))


def _words(name: str) -> str:
    return "VM" if name == "vm" else name.replace("_", " ").capitalize()
