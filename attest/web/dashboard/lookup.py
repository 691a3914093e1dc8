"""Records as pages show them, and the numbers a query may carry."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from attest.audit.chain import parse_record
from attest.audit.errors import AuditBroken
from attest.audit.record import DECISION
from attest.broker.views import record_json
from attest.store import records
from attest.store.errors import NotFound
from attest.store.records import Filter, StoredRecord
from attest.web.dashboard.house import Ask
from attest.web.digits import digits
from policy.decide import AFFIRMING

PAGE_SIZE = 50
ACCEPTED, DENIED, NOT_GENUINE, UNAVAILABLE = "accepted", "denied", "not-genuine", "unavailable"
RESULTS = (ACCEPTED, DENIED, NOT_GENUINE, UNAVAILABLE)
RESULT_OF = {
    AFFIRMING: ACCEPTED,
    "contraindicated": DENIED,
    "not-genuine": NOT_GENUINE,
    "malformed": NOT_GENUINE,
    "unavailable": UNAVAILABLE,
}


def result_of(outcome: str) -> str:
    """A decision's outcome as one of four results; an outcome that is not known is no acceptance."""
    return RESULT_OF.get(outcome, DENIED)


def row(stored: StoredRecord) -> dict[str, Any]:
    """One line of a listing. A record that was tampered with is shown as one, and does not take the page down."""
    try:
        found = record_json(stored)
    except AuditBroken as exc:
        found = {"number": stored.seq, "kind": stored.kind, "subject": stored.subject, "outcome": stored.outcome}
        found |= {"time": None, "sha256": stored.sha256.hex(), "damaged": exc.message}
    if stored.kind == DECISION:
        found["result"] = result_of(stored.outcome)
    return found


def newest(tx: Connection, limit: int, *wanted: Filter) -> list[StoredRecord]:
    """The newest records that fit one of the filters, newest first."""
    found = [stored for each in wanted for stored in records.find(tx, each, limit=limit)]
    return sorted(found, key=lambda stored: -stored.seq)[:limit]


def rows(tx: Connection, limit: int, *wanted: Filter) -> list[dict[str, Any]]:
    """As :func:`newest`, as lines of a listing."""
    return [row(stored) for stored in newest(tx, limit, *wanted)]


def of_kind(kind: str, **more: Any) -> Filter:
    """A filter for one kind of record."""
    return Filter(kinds=(kind,), **more)


def record_of(ask: Ask, kind: str | None = None) -> tuple[StoredRecord, Any]:
    """The record the path names, parsed. Raises NotFound, AuditBroken where it was altered."""
    number = int(ask.arguments["number"])
    stored = records.get(ask.tx, number) if number < 2**53 else None
    if stored is None or kind not in (None, stored.kind):
        raise NotFound(f"{kind or 'audit record'} {number}: not found")
    return stored, parse_record(stored.record, f"audit record {number}")


def before_of(ask: Ask) -> int | None:
    """``?before=N``: the page of records below that number; anything else is the first page."""
    return digits(ask.query.get("before", ""))


def page_of(ask: Ask, *wanted: Filter) -> tuple[list[dict[str, Any]], int | None]:
    """One page of records, and the number to ask for the next with, if there is one."""
    found = rows(ask.tx, PAGE_SIZE + 1, *wanted)
    more = found[PAGE_SIZE - 1]["number"] if len(found) > PAGE_SIZE else None
    return found[:PAGE_SIZE], more
