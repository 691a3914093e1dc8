"""Signed checkpoints of the audit tree, by size."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from attest.store.columns import as_bytes
from attest.store.schema import audit, checkpoints
from attest.store.times import from_micros, to_micros


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """``root`` has 32 bytes, ``note`` is the signed text."""

    size: int
    root: bytes
    time: datetime
    note: bytes


def size_of_log(tx: Connection) -> int:
    """How many records there are."""
    return tx.scalar(select(audit.c.seq).order_by(audit.c.seq.desc()).limit(1)) or 0


def newest(tx: Connection) -> StoredCheckpoint | None:
    """The largest."""
    row = tx.execute(select(checkpoints).order_by(checkpoints.c.size.desc()).limit(1)).first()
    if row is None:
        return None
    return StoredCheckpoint(row.size, as_bytes(row.root), from_micros(row.time), as_bytes(row.note))


def add(tx: Connection, found: StoredCheckpoint) -> None:
    """Keep a new one."""
    tx.execute(
        insert(checkpoints).values(size=found.size, root=found.root, time=to_micros(found.time), note=found.note)
    )


def cosign(tx: Connection, size: int, note: bytes) -> None:
    """Replace the note of a checkpoint by one with more signatures."""
    tx.execute(update(checkpoints).where(checkpoints.c.size == size).values(note=note))
