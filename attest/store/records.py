"""The audit table: numbered records, appended only, each built on the digest of the one before."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from attest.audit.merkle import leaf_hash
from attest.store import tree
from attest.store.columns import as_bytes
from attest.store.schema import audit
from attest.store.times import from_micros, to_micros

GENESIS = bytes(32)
"""What the first record carries as the digest of its predecessor."""


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """One row: ``record`` is the canonical bytes, ``sha256`` their digest as stored; the rest is an index."""

    seq: int
    time: datetime
    kind: str
    subject: str
    outcome: str
    record: bytes
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Draft:
    """A record that has no number yet. ``build(seq, previous)`` gives its canonical bytes."""

    time: datetime
    kind: str
    subject: str
    outcome: str
    build: Callable[[int, bytes], bytes]


def append(tx: Connection, draft: Draft) -> int:
    """Append one record; returns its number. Durable when the writing transaction has ended."""
    return append_all(tx, [draft])[-1]


def append_all(tx: Connection, drafts: Sequence[Draft]) -> range:
    """Append records in order, and their leaves to the tree; returns their numbers."""
    last = tx.execute(select(audit.c.seq, audit.c.sha256).order_by(audit.c.seq.desc()).limit(1)).first()
    seq, previous = (0, GENESIS) if last is None else (last.seq, last.sha256)
    frontier = tree.frontier(tx, seq, previous)
    rows, nodes = [], []
    for number, draft in enumerate(drafts, seq + 1):
        record = draft.build(number, previous)
        previous = hashlib.sha256(record).digest()
        rows.append(_row(number, draft, record, previous))
        nodes += frontier.push(leaf_hash(record))
    tx.execute(insert(audit), rows)
    tree.add(tx, nodes)
    tree.remember(tx, frontier, previous)
    return range(seq + 1, seq + 1 + len(drafts))


def _row(seq: int, draft: Draft, record: bytes, sha256: bytes) -> dict[str, object]:
    return {
        "seq": seq,
        "time": to_micros(draft.time),
        "kind": draft.kind,
        "subject": draft.subject,
        "outcome": draft.outcome,
        "record": record,
        "sha256": sha256,
    }


def get(tx: Connection, seq: int) -> StoredRecord | None:
    """Record number ``seq``."""
    row = tx.execute(select(audit).where(audit.c.seq == seq)).first()
    return None if row is None else _stored(row)


def newest(
    tx: Connection, *, since: datetime | None = None, kind: str | None = None, limit: int | None = None
) -> tuple[StoredRecord, ...]:
    """The newest ``limit`` records of ``kind`` not older than ``since``, oldest first."""
    query = select(audit).order_by(audit.c.seq.desc()).limit(limit)
    if kind is not None:
        query = query.where(audit.c.kind == kind)
    if since is not None:
        query = query.where(audit.c.time >= to_micros(since))
    rows = tx.execute(query).all()
    return tuple(_stored(row) for row in reversed(rows))


def walk(tx: Connection) -> Iterator[StoredRecord]:
    """Every record in order of its number."""
    for row in tx.execute(select(audit).order_by(audit.c.seq), execution_options={"yield_per": 500}):
        yield _stored(row)


def _stored(row: Row[tuple[Any, ...]]) -> StoredRecord:
    return StoredRecord(
        seq=row.seq,
        time=from_micros(row.time),
        kind=row.kind,
        subject=row.subject,
        outcome=row.outcome,
        record=as_bytes(row.record),
        sha256=as_bytes(row.sha256),
    )
