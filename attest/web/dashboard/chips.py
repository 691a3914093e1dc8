"""The fleet: which chips were seen until when, at which TCB; and one chip."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from attest.audit.canonical import rfc3339
from attest.audit.chain import parse_record
from attest.audit.errors import AuditBroken
from attest.audit.facts import Level, tcb_text
from attest.audit.record import DECISION
from attest.store import checkpoints, reading, records
from attest.store.errors import NotFound
from attest.store.records import StoredRecord
from attest.web.dashboard.house import Ask
from attest.web.dashboard.lookup import PAGE_SIZE, before_of, newest, of_kind, row
from attest.web.digits import digits

_LABELS = 20
_BACK = {"a week ago": 7, "a month ago": 30, "a quarter ago": 91, "a year ago": 365}


def fleet(ask: Ask) -> dict[str, Any]:
    """``?asof=`` (a record's number, or a date: before it begins) and ``?before=``: every chip by its newest decision
    until then, newest first, and how many stand at which TCB.
    """
    upto = _as_of(ask)
    last = records.get(ask.tx, upto) if upto else None
    counted = ask.house.once(("levels", upto, None if last is None else last.sha256), lambda: _counts(ask, upto))
    found = reading.chips(ask.tx, upto, before_of(ask) or upto + 1, PAGE_SIZE + 1)
    items = [item for entry in found[:PAGE_SIZE] if (item := _chip(ask, entry)) is not None]
    return {
        "asof": {"record": upto, "time": None if last is None else rfc3339(last.time)},
        "earlier": {words: (ask.now - timedelta(days=days)).date().isoformat() for words, days in _BACK.items()},
        **counted,
        "chips": items,
        "next": found[PAGE_SIZE - 1].newest if len(found) > PAGE_SIZE else None,
    }


def _as_of(ask: Ask) -> int:
    """The newest record that counts; what is no number and no date is now."""
    text, size = ask.query.get("asof", ""), checkpoints.size_of_log(ask.tx)
    if (number := digits(text)) is not None:
        return min(number, size)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return size
    return reading.last_before(ask.tx, when if when.tzinfo else when.replace(tzinfo=UTC))


def _counts(ask: Ask, upto: int) -> dict[str, Any]:
    counted = [(Level.parse(text), count) for text, count in reading.levels(ask.tx, upto)]
    tcb: Counter[str] = Counter()
    platforms: Counter[str] = Counter()
    for level, count in counted:
        tcb[f"{level.product} · {level.tcb}"] += count
        platforms[level.platform] += count
    return {"total": sum(platforms.values()), "tcb": _bars(tcb), "platforms": _bars(platforms)}


def _bars(counted: Counter[str]) -> list[dict[str, Any]]:
    """The most common ones, and the others together."""
    most = counted.most_common(_LABELS)
    rest = counted.total() - sum(count for _, count in most)
    return [{"label": label, "count": count} for label, count in (*most, *([("others", rest)] if rest else []))]


def _chip(ask: Ask, entry: reading.Chip) -> dict[str, Any] | None:
    stored = records.get(ask.tx, entry.newest)
    seen = [] if stored is None else _seen(ask, [stored])
    return seen[0] | {"decisions": entry.decisions} if seen else None


def chip(ask: Ask) -> dict[str, Any]:
    """One chip: its TCB over time and the decisions about it, newest first."""
    wanted = str(ask.arguments["chip"])
    seen = _seen(ask, newest(ask.tx, PAGE_SIZE, of_kind(DECISION, chip=wanted, before=before_of(ask))))
    if not seen:
        raise NotFound(f"chip {wanted[:40]!r}: no decision was made about it")
    return {
        **{name: seen[0][name] for name in ("chip", "product", "platform", "emulated", "tcb")},
        "measurements": sorted({item["last"]["launch_digest"] for item in seen}),
        "decisions": [item["last"] | {"tcb": item["tcb"]} for item in seen],
        "next": seen[-1]["last"]["number"] if len(seen) == PAGE_SIZE else None,
    }


def _seen(ask: Ask, found: list[StoredRecord]) -> list[dict[str, Any]]:
    items = []
    for stored in found:
        item = ask.house.once(("chip", stored.seq, stored.sha256), partial(_of, stored))
        if item is not None:
            items.append(item)
    return items


def _of(stored: StoredRecord) -> dict[str, Any] | None:
    """What a decision says about its chip; ``None`` where nothing was verified, or the host masks the chip's id."""
    try:
        body: Any = parse_record(stored.record, f"audit record {stored.seq}")["body"]
    except AuditBroken:
        return None
    claims = body["claims"]
    if claims is None:
        return None
    pck = claims.get("pck")
    name = pck["ppid"] if pck else claims.get("chip_id", "")
    if not name.strip("0"):
        return None
    product = f"FMSPC {pck['fmspc']}" if pck else claims["product"]
    return {
        "chip": name,
        "product": product,
        "platform": body["platform"],
        "emulated": body["emulated"],
        "tcb": claims["tcb"]["status"] if pck else tcb_text(claims["reported_tcb"]),
        "last": row(stored),
    }
