"""Signed statements of hosts that are on record: each once, and launches countable by measurement and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, insert, select

from attest.store.records import StoredRecord, stored_of
from attest.store.schema import audit, launches
from attest.store.times import to_micros


@dataclass(frozen=True, slots=True)
class StoredStatement:
    """``record`` is the audit record's number; ``measurement`` (hexadecimal) is ``None`` for the end of a launch.

    ``key_id`` and ``statement`` (SHA-256 of the signed bytes, hexadecimal) name it. ``time`` is from when it counts.
    """

    key_id: str
    statement: str
    record: int
    host: str
    vm: str
    measurement: str | None
    time: datetime


def record_of(tx: Connection, key_id: str, statement: str) -> int | None:
    """The audit record of a statement that arrived before."""
    return tx.scalar(select(launches.c.record).where(launches.c.key_id == key_id, launches.c.statement == statement))


def add(tx: Connection, found: StoredStatement) -> None:
    """Note a statement that is on record now."""
    tx.execute(
        insert(launches).values(
            key_id=found.key_id,
            statement=found.statement,
            record=found.record,
            host=found.host,
            vm=found.vm,
            measurement=found.measurement,
            time=to_micros(found.time),
        )
    )


def records_of(
    tx: Connection, *, vm: str | None = None, measurement: str | None = None, limit: int | None = None
) -> tuple[StoredRecord, ...]:
    """The newest ``limit`` audit records of statements about a VM, or of launches of a measurement, oldest first.

    Here they are few; by the log's own columns they would be looked for among every decision about the guest.
    """
    query = select(audit).join(launches, launches.c.record == audit.c.seq)
    if vm is not None:
        query = query.where(launches.c.vm == vm)
    if measurement is not None:
        query = query.where(launches.c.measurement == measurement)
    rows = tx.execute(query.order_by(launches.c.record.desc()).limit(limit)).all()
    return tuple(stored_of(row) for row in reversed(rows))


def count(tx: Connection, measurement: str, since: datetime, hosts: Sequence[str] | None = None) -> int:
    """Launches of ``measurement`` on record not older than ``since``; ``hosts``: only those of these hosts."""
    query = select(func.count()).where(launches.c.measurement == measurement, launches.c.time >= to_micros(since))
    if hosts is not None:
        query = query.where(launches.c.host.in_(hosts))
    return int(tx.scalar(query.select_from(launches)) or 0)
