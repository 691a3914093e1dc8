"""What release conditions are judged by: the conditions, releases so far, approvals in force, launches of a VM."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update

from attest.store.columns import as_bytes
from attest.store.prepared import Prepared
from attest.store.schema import approvals, conditions, instances, releases
from attest.store.times import from_micros, to_micros

BREAK_GLASS = "break-glass"


@dataclass(frozen=True, slots=True)
class StoredConditions:
    """``document`` is the TOML text as it was set; ``disabled`` stops every release."""

    path: str
    version: int
    document: bytes
    disabled: bool
    set_at: datetime
    set_by: str


@dataclass(frozen=True, slots=True)
class StoredApproval:
    """``id`` is the audit record's number."""

    id: int
    purpose: str
    operator: str
    given: datetime
    expires: datetime


_CURRENT = Prepared(
    select(conditions).where(conditions.c.path == bindparam("its_path")).order_by(conditions.c.version.desc()).limit(1)
)


def current(tx: Connection, path: str) -> StoredConditions | None:
    """The newest conditions of ``path``."""
    row = _CURRENT.first(tx, {"its_path": path})
    if row is None:
        return None
    return StoredConditions(
        row.path, row.version, as_bytes(row.document), bool(row.disabled), from_micros(row.set_at), row.set_by
    )


def put(tx: Connection, path: str, document: bytes, *, disabled: bool, now: datetime, actor: str) -> int:
    """Add a version; returns its number."""
    before = current(tx, path)
    version = 1 if before is None else before.version + 1
    tx.execute(
        insert(conditions).values(
            path=path, version=version, document=document, disabled=disabled, set_at=to_micros(now), set_by=actor
        )
    )
    return version


def set_disabled(tx: Connection, path: str, disabled: bool) -> None:
    """Stop or allow releases under the newest version: what was counted since it was set goes on counting."""
    newest = select(func.max(conditions.c.version)).where(conditions.c.path == path).scalar_subquery()
    tx.execute(
        update(conditions).where(conditions.c.path == path, conditions.c.version == newest).values(disabled=disabled)
    )


def count(tx: Connection, path: str, since: datetime) -> int:
    """Releases since ``since``, that moment included."""
    query = select(func.count()).where(releases.c.path == path, releases.c.time >= to_micros(since))
    return int(tx.scalar(query.select_from(releases)) or 0)


def add_release(tx: Connection, record: int, path: str, now: datetime) -> None:
    """Count a release."""
    tx.execute(insert(releases).values(id=record, path=path, time=to_micros(now)))


def approve(tx: Connection, path: str, given: StoredApproval) -> None:
    """Keep an approval."""
    tx.execute(
        insert(approvals).values(
            id=given.id,
            path=path,
            purpose=given.purpose,
            operator=given.operator,
            given=to_micros(given.given),
            expires=to_micros(given.expires),
        )
    )


def in_force(tx: Connection, path: str, now: datetime) -> tuple[StoredApproval, ...]:
    """Approvals and break-glass of ``path`` that have not ended."""
    rows = tx.execute(
        select(approvals).where(approvals.c.path == path, approvals.c.expires > to_micros(now)).order_by(approvals.c.id)
    )
    return tuple(map(_approval, rows))


def all_in_force(tx: Connection, now: datetime) -> tuple[tuple[str, StoredApproval], ...]:
    """(Path, approval) of every approval and break-glass that has not ended."""
    rows = tx.execute(select(approvals).where(approvals.c.expires > to_micros(now)).order_by(approvals.c.id))
    return tuple((row.path, _approval(row)) for row in rows)


def _approval(row: Row[Any]) -> StoredApproval:
    return StoredApproval(row.id, row.purpose, row.operator, from_micros(row.given), from_micros(row.expires))


def use_up(tx: Connection, path: str, purpose: str) -> None:
    """End the approvals of one purpose, by every clock: one that is behind must not find them in force again."""
    tx.execute(update(approvals).where(approvals.c.path == path, approvals.c.purpose == purpose).values(expires=0))


def end_all(tx: Connection) -> None:
    """End every approval and break-glass, by every clock."""
    tx.execute(update(approvals).values(expires=0))


def seen_before(tx: Connection, vm: str) -> tuple[tuple[str, str], ...]:
    """(machine, instance) of the VM's launches, oldest first."""
    rows = tx.execute(select(instances).where(instances.c.vm == vm).order_by(instances.c.number))
    return tuple((row.machine, row.instance) for row in rows)


def add_instance(tx: Connection, vm: str, machine: str, instance: str, now: datetime) -> None:
    """A launch that is new."""
    number = tx.scalar(select(func.max(instances.c.number)).where(instances.c.vm == vm)) or 0
    tx.execute(
        insert(instances).values(vm=vm, number=number + 1, machine=machine, instance=instance, seen=to_micros(now))
    )


def forget(tx: Connection, vm: str) -> int:
    """Forget where the VM was seen: it may come up elsewhere. Returns how many launches were known."""
    return int(tx.execute(delete(instances).where(instances.c.vm == vm)).rowcount)
