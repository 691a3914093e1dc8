"""The fleet: which chips were seen lately, at which TCB; and one chip."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

from attest.audit.chain import parse_record
from attest.audit.errors import AuditBroken
from attest.audit.record import DECISION
from attest.store.errors import NotFound
from attest.store.records import StoredRecord
from attest.web.dashboard.house import Ask
from attest.web.dashboard.lookup import PAGE_SIZE, before_of, newest, of_kind, row

SAMPLE = 500
"""Decisions the fleet is told from, the newest ones; the page says so."""


def fleet(ask: Ask) -> dict[str, Any]:
    """Chips by their newest decision, and how many stand at which TCB."""
    seen = _seen(ask, newest(ask.tx, SAMPLE, of_kind(DECISION)))
    chips: dict[str, dict[str, Any]] = {}
    for item in seen:
        known = chips.setdefault(item["chip"], item | {"decisions": 0})
        known["decisions"] += 1
    found = list(chips.values())
    return {
        "sample": SAMPLE,
        "oldest": seen[-1]["last"]["time"] if seen else None,
        "chips": found,
        "tcb": _counted(f"{item['product']} · {item['tcb']}" for item in found),
        "platforms": _counted(item["platform"] for item in found),
    }


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


def tcb_text(parts: dict[str, int]) -> str:
    """``bootloader 10, tee 0, snp 24, microcode 84``: JSON keeps no order of a record's members."""
    order = ("fmc", "bootloader", "tee", "snp", "microcode")
    return ", ".join(f"{name} {parts[name]}" for name in order if name in parts)


def _counted(labels: Any) -> list[dict[str, Any]]:
    return [{"label": label, "count": count} for label, count in Counter(labels).most_common()]
