"""Charts drawn on the server: shapes in SVG, words beside them in HTML, so that text keeps its size on every screen.

No inline styles (the content security policy forbids them): classes and attributes only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from attest.evidence.event_text import shown
from attest.web.dashboard.lookup import RESULTS

_WIDTH, _HEIGHT, _GAP = 600, 120, 4
_EMPTY = Markup("")
WORDS = dict(zip(RESULTS, ("accepted", "denied by policy", "not genuine", "unavailable"), strict=True))


def days_chart(days: Sequence[dict[str, Any]], unit: str = "day") -> Markup:
    """Stacked bars, at least one, one for each ``unit``: its first ``day`` and a count for each result."""
    most = max(1, *(sum(day[name] for name in RESULTS) for day in days))
    step = _WIDTH / len(days)
    bars = _EMPTY.join(_stack(day, number * step, step - _GAP, most) for number, day in enumerate(days))
    total = sum(day[name] for day in days for name in RESULTS)
    words = f"{total} decisions from {days[0]['day']} to {days[-1]['day']}; at most {most} in one {unit}"
    return _drawing(words, bars)


def _stack(day: dict[str, Any], left: float, width: float, most: int) -> Markup:
    found, bottom = [], float(_HEIGHT)
    for name in RESULTS:
        height = day[name] / most * (_HEIGHT - 4)
        if height:
            height = max(height, 2.0)  # one refusal among a thousand is still seen
            bottom -= height
            found.append(_bar(f"fill-{name}", left, max(bottom, 0.0), width, height))
    words = ", ".join(f"{day[name]} {WORDS[name]}" for name in RESULTS if day[name]) or "none"
    return Markup("<g><title>{}: {}</title>{}</g>").format(day["day"], words, _EMPTY.join(found))


def times_chart(counts: Sequence[tuple[str, int]], unit: str) -> Markup:
    """Bars, at least one, one for each ``unit``: its first day and a count."""
    most = max(1, *(count for _, count in counts))
    step = _WIDTH / len(counts)
    bars = []
    for number, (day, count) in enumerate(counts):
        height = count / most * (_HEIGHT - 4)
        bar = _bar("bar-fill", number * step, _HEIGHT - height, step - _GAP, height)
        bars.append(Markup("<g><title>{}: {}</title>{}</g>").format(day, count, bar))
    words = f"{sum(count for _, count in counts)} from {counts[0][0]} to {counts[-1][0]}; at most {most} in one {unit}"
    return _drawing(words, _EMPTY.join(bars))


def _bar(kind: str, left: float, top: float, width: float, height: float) -> Markup:
    return Markup('<rect class="{}" x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}"/>').format(
        kind, left, top, width, height
    )


def _drawing(words: str, bars: Markup) -> Markup:
    return Markup(
        '<svg class="days" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<path class="grid" d="M0 {}H{}M0 {}H{}"/>{}</svg>'
    ).format(_WIDTH, _HEIGHT, words, _HEIGHT / 2, _WIDTH, _HEIGHT - 0.5, _WIDTH, bars)


def bars_chart(counts: Sequence[dict[str, Any]]) -> Markup:
    """One bar for each label, longest first as given; the words and numbers are text."""
    most = max((item["count"] for item in counts), default=1)
    lines = (
        Markup(
            '<li><span class="bar-label">{}</span><span class="bar-count">{}</span>'
            '<svg class="bar" aria-hidden="true" preserveAspectRatio="none" viewBox="0 0 100 8">'
            '<rect class="bar-track" width="100" height="8"/><rect class="bar-fill" width="{:.1f}" height="8"/>'
            "</svg></li>"
        ).format(shown(str(item["label"])), item["count"], item["count"] / most * 100)
        for item in counts
    )
    return Markup('<ul class="bars">{}</ul>').format(_EMPTY.join(lines))
