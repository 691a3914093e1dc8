"""Writing audit records: the store numbers them, the audit package gives their bytes."""

from __future__ import annotations

from sqlalchemy import Connection

from attest.audit.facts import facts_of
from attest.audit.record import Event
from attest.store import records


def append(tx: Connection, event: Event) -> int:
    """Append one record in the caller's writing transaction; returns its number."""
    return records.append(tx, draft(event))


def draft(event: Event) -> records.Draft:
    """The event as the store takes it, with what it can be found by."""
    about = facts_of(event.kind, event.subject, event.body)
    return records.Draft(event.time, event.kind, event.subject, event.outcome, event.encoder(), about)
