"""Reference values that a date has ended, put on record: nobody acts at that moment, so a replica that looks writes it.

A value ends by its own file (``expires``) or by the upgrade that followed it (``retires``); from then on it counts in
no decision, whether or not anybody looked. The record comes with the next look, once for each end, whichever replica is
first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from attest.audit.canonical import rfc3339
from attest.audit.record import REFERENCE_ADD, REFERENCE_RETIRE, Event
from attest.broker.operations import By
from attest.broker.questions import read_record
from attest.broker.rules import Rules
from attest.broker.trail import append
from attest.store import records
from attest.store.engine import Database
from attest.store.records import Filter
from policy.reference import ReferenceValue

OUTCOME = "ended by its date"
FILE, UPGRADE = "file", "upgrade"


@dataclass(frozen=True, slots=True)
class End:
    """Of the value with this name and document (SHA-256); ``said_by`` its own file or the upgrade that followed it."""

    name: str
    document: bytes
    launch_digest: bytes
    when: datetime
    said_by: str


def ends(rules: Rules, now: datetime) -> list[End]:
    """The values among those in force that a date has ended by now."""
    found = (_end(digest, value) for digest, value in rules.parsed.items())
    return [end for end in found if end is not None and end.when <= now]


def record_end(database: Database, end: End, by: By) -> bool:
    """Whether this put it on record: false where it was already, or the value is retired by hand since."""
    with database.write() as tx:
        if _is_known(tx, end):
            return False
        body = {
            "document": end.document,
            "launch_digest": end.launch_digest,
            "ended": rfc3339(end.when),
            "said_by": end.said_by,
        }
        append(tx, Event(by.now, REFERENCE_RETIRE, end.name, OUTCOME, by.actor, body))
    return True


def _end(document: bytes, value: ReferenceValue) -> End | None:
    dates = [(value.expires, FILE), (None if value.stage is None else value.stage.retires, UPGRADE)]
    known = [(when, said_by) for when, said_by in dates if when is not None]
    if not known:
        return None
    when, said_by = min(known)
    return End(value.name, document, bytes(value.launch_digest), when, said_by)


def _is_known(tx: Connection, end: End) -> bool:
    """Whether the log says so of the document since it was registered last, by this date or by hand."""
    added = max((number for number, _ in _about(tx, end, REFERENCE_ADD, 0)), default=0)
    return any(body.get("ended") in (None, rfc3339(end.when)) for _, body in _about(tx, end, REFERENCE_RETIRE, added))


def _about(tx: Connection, end: End, kind: str, after: int) -> Iterator[tuple[int, Any]]:
    """(Number, body) of the records of a kind about this very document."""
    for stored in records.find(tx, Filter(kinds=(kind,), subject=end.name, after=after)):
        body = read_record(stored)["body"]
        if body["document"] == end.document.hex():
            yield stored.seq, body
