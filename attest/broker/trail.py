"""Writing audit records: the store numbers them, the audit package gives their bytes."""

from __future__ import annotations

from sqlalchemy import Connection

from attest.audit.record import Event
from attest.store import records


def append(tx: Connection, event: Event) -> int:
    """Append one record in the caller's writing transaction; returns its number."""
    return records.append(tx, records.Draft(event.time, event.kind, event.subject, event.outcome, event.record))
