"""The overview: what was decided, what runs, how fresh the collateral is, what expires."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from attest.audit.canonical import rfc3339
from attest.audit.record import DECISION, NOTICED
from attest.broker.views import reference_json
from attest.store import checkpoints, reading, records, rules
from attest.store.records import Filter
from attest.web.dashboard.endorsements import BAD, endorsement_items
from attest.web.dashboard.house import Ask
from attest.web.dashboard.lookup import ACCEPTED, RESULT_OF, RESULTS, of_kind, result_of, rows
from attest.web.dashboard.rules import policy_in_force
from attest.web.dashboard.vms import vm_rows

DAYS = 30
_LAST, _VMS, _EXPIRING = 8, 8, 8
_SOON = timedelta(days=30)


def overview(ask: Ask) -> dict[str, Any]:
    """Everything at a glance; nothing in it reads more of the log than an index or a few records."""
    head, chart = log_head(ask), decisions_by_day(ask)
    collateral, expiring = endorsement_items(ask), _expiring(ask)
    return {
        "head": head,
        "policy": policy_in_force(ask),
        "decisions_by_day": chart,
        "last_decisions": rows(ask.tx, _LAST, of_kind(DECISION)),
        "vms": vm_rows(ask, limit=_VMS),
        "collateral": {"items": len(collateral), "late": sum(item["state"] in BAD for item in collateral)},
        "expiring": expiring,
        "attention": _attention(ask, head, chart, collateral),
    }


def log_head(ask: Ask) -> dict[str, Any]:
    """Where the log ends, and how far the newest signed checkpoint covers it."""
    size, point = checkpoints.size_of_log(ask.tx), checkpoints.newest(ask.tx)
    last = records.get(ask.tx, size) if size else None
    return {
        "records": size,
        "time": None if last is None else rfc3339(last.time),
        "sha256": None if last is None else last.sha256.hex(),
        "checkpoint": None
        if point is None
        else {
            "size": point.size,
            "root": point.root.hex(),
            "time": rfc3339(point.time),
            "note": point.note.decode("utf-8", "replace"),
        },
        "uncovered": size - (0 if point is None else point.size),
    }


def decisions_by_day(ask: Ask) -> dict[str, Any]:
    """Counts by result for each of the last days, oldest first."""
    today = ask.now.astimezone(UTC).date()
    first = today - timedelta(days=DAYS - 1)
    counts = {first + timedelta(days=offset): dict.fromkeys(RESULTS, 0) for offset in range(DAYS)}
    epoch = date(1970, 1, 1)
    span = (first - epoch).days, (today - epoch).days
    for number, outcome, count in reading.decisions_by_day(ask.tx, RESULT_OF, *span):
        counts[epoch + timedelta(days=number)][result_of(outcome)] += count
    days = [{"day": day.isoformat(), **found} for day, found in counts.items()]
    return {"days": days, "totals": {name: sum(found[name] for found in counts.values()) for name in RESULTS}}


def _expiring(ask: Ask) -> list[dict[str, Any]]:
    """What ends next, soonest first: reference values and collateral."""
    found = [
        {"what": f"reference value {entry['name']}", "kind": "reference", "expires": entry["expires"]}
        for entry in map(reference_json, rules.active_references(ask.tx))
        if entry["expires"] is not None
    ]
    found += [
        {"what": item["name"], "kind": item["kind"], "expires": item["expires"]}
        for item in endorsement_items(ask)
        if item["expires"] is not None
    ]
    for item in found:
        item["soon"] = datetime.fromisoformat(item["expires"]) < ask.now + _SOON
    return sorted(found, key=lambda item: datetime.fromisoformat(item["expires"]))[:_EXPIRING]


def _attention(
    ask: Ask, head: dict[str, Any], chart: dict[str, Any], collateral: list[dict[str, Any]]
) -> list[dict[str, str]]:
    """What somebody should look at, in words, with the page that shows it."""
    today = chart["days"][-1]
    refused = sum(today[name] for name in RESULTS if name != ACCEPTED)
    late = [item for item in collateral if item["state"] in BAD]
    found = []
    if refused:
        found.append({"text": f"{refused} attestations were not accepted today", "page": "/decisions?result=denied"})
    if late:
        found.append({"text": f"{len(late)} pieces of collateral are out of date", "page": "/endorsements"})
    if policy_in_force(ask).get("emulated"):
        found.append({"text": "The policy accepts emulated hardware, which protects nothing", "page": "/policies"})
    wanted = Filter(since=ask.now - timedelta(days=1), kinds=NOTICED, outcome="changed")
    if changed := records.count(ask.tx, wanted):
        text = f"{changed} changes of roles, keys, settings or collateral in the last day"
        found.append({"text": text, "page": "/records?kind=changes"})
    if head["uncovered"]:
        text = f"{head['uncovered']} records are not covered by a signed checkpoint yet"
        found.append({"text": text, "page": "/records"})
    return found
