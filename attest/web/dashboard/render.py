"""How values become HTML: everything is made printable, then escaped, wherever a template puts it.

Guests choose command lines, event data and the text of failures; operators choose names. Jinja's ``finalize`` sees
every expression of every template, so no template can forget: control characters, escape codes and marks that turn the
direction of text are shown as ``\\x1b`` or ``\\u202e``, and what remains is escaped as HTML.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from flask import Flask
from markupsafe import Markup

from attest.audit.canonical import rfc3339
from attest.evidence.event_text import shown
from attest.web.dashboard import charts, picture

MENU = (
    ("overview", "/", "Overview"),
    ("vms", "/vms", "VMs"),
    ("decisions", "/decisions", "Decisions"),
    ("references", "/references", "References"),
    ("policies", "/policies", "Policies"),
    ("endorsements", "/endorsements", "Endorsements"),
    ("fleet", "/fleet", "Fleet"),
    ("anomalies", "/anomalies", "Anomalies"),
    ("records", "/records", "Audit log"),
    ("compliance", "/compliance", "Compliance"),
)
SIGNS = {
    "accepted": "✓", "pass": "✓", "good": "✓", "denied": "✕", "fail": "✕", "not-genuine": "✕", "unavailable": "…",
    "ignored": "–", "expires-soon": "!", "stale": "!", "expired": "✕", "damaged": "✕", "missing": "?",
}  # fmt: skip
"""A sign beside each state, for those who do not see its colour."""
_SHORT = 20


def fit(app: Flask) -> None:
    """Give an application's templates our ways of showing values."""
    app.jinja_options = {"finalize": visible, "trim_blocks": True, "lstrip_blocks": True, "autoescape": True}
    app.jinja_env.filters |= {"short": short, "moment": moment, "ago": ago, "left": left, "words": words}
    app.jinja_env.globals |= {
        "menu": MENU,
        "signs": SIGNS,
        "result_words": charts.WORDS,
        "days_chart": charts.days_chart,
        "bars_chart": charts.bars_chart,
        "launch_picture": picture.launch_picture,
        "td_picture": picture.td_picture,
    }


def visible(value: Any) -> Any:
    """What a template's expression shows. ``None`` is nothing; text without anything that could hide or move text."""
    if value is None:
        return ""
    return value if isinstance(value, Markup) else shown(str(value))


def short(value: str | None) -> str:
    """Enough of a digest to recognise it."""
    text = value or ""
    return text if len(text) <= _SHORT else f"{text[:8]}…{text[-6:]}"


def words(value: str) -> str:
    """An identifier as a person reads it."""
    return value.replace("-", " ").replace("_", " ")


def moment(value: str | datetime | None) -> Markup:
    """A time as an element that says exactly which; an RFC 3339 string or an aware datetime."""
    when = _time(value)
    if when is None:
        return Markup("—")
    return Markup('<time datetime="{}">{}</time>').format(rfc3339(when), when.strftime("%Y-%m-%d %H:%M:%S UTC"))


def ago(value: str | datetime | None, now: datetime) -> str:
    """How long ago, in one unit."""
    when = _time(value)
    if when is None:
        return "never"
    return "just now" if now - when < timedelta(seconds=5) else f"{_span(now - when)} ago"


def left(value: str | datetime | None, now: datetime) -> str:
    """How long until, in one unit; ``ended … ago`` when it is past."""
    when = _time(value)
    if when is None:
        return "no end"
    return f"in {_span(when - now)}" if when > now else f"ended {_span(now - when)} ago"


def _time(value: str | datetime | None) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _span(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size:
            count = seconds // size
            return f"{count:,} {unit}{'s' if count > 1 else ''}".replace(",", " ")
    return "a moment"
