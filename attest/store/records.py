"""The audit table: numbered records, appended only, each built on the digest of the one before."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, Select, bindparam, func, literal, select

from attest.audit.facts import NONE, Facts
from attest.audit.merkle import Frontier, leaf_hash
from attest.audit.record import DECISION
from attest.store import tree
from attest.store.columns import as_bytes
from attest.store.pair import Row, insert_pair
from attest.store.prepared import Prepared
from attest.store.schema import audit, leaves
from attest.store.times import from_micros, to_micros
from policy.decide import AFFIRMING

_LAST = Prepared(select(audit.c.seq, audit.c.sha256).order_by(audit.c.seq.desc()).limit(1))
_END = "cvm_end"
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
    facts: Facts = NONE


@dataclass(frozen=True, slots=True)
class Draft:
    """A record that has no number yet. ``build(seq, previous)`` gives its canonical bytes."""

    time: datetime
    kind: str
    subject: str
    outcome: str
    build: Callable[[int, bytes], bytes]
    facts: Facts = NONE


@dataclass(frozen=True, slots=True)
class Filter:
    """Which records; what is ``None`` is not looked at. ``until`` itself is left out. ``kinds`` empty: all kinds.

    ``subject`` is the resource of releases; ``before`` and ``after`` are numbers, left out themselves.
    """

    since: datetime | None = None
    until: datetime | None = None
    kinds: tuple[str, ...] = ()
    subject: str | None = None
    outcome: str | None = None
    chip: str | None = None
    measurement: str | None = None
    vm: str | None = None
    before: int | None = None
    after: int | None = None


EVERY = Filter()


_FACTS = Prepared(
    select(audit.c.chip, audit.c.measurement, audit.c.vm, audit.c.level).where(audit.c.seq == bindparam("number"))
)


def append(tx: Connection, draft: Draft) -> int:
    """Append one record and its leaf; returns its number. Durable when the writing transaction has ended."""
    edge, previous = _end(tx)
    number = edge.size + 1
    record = draft.build(number, previous)
    digest = hashlib.sha256(record).digest()
    leaf = tree.grow(edge, leaf_hash(record))
    insert_pair(tx, (audit, _row(number, draft, record, digest)), (leaves, leaf))
    # Of what SQLAlchemy may undo by itself only the edge is kept, to be compared.
    tx.info[_END] = (None if tx.in_nested_transaction() else tx.get_transaction(), edge, digest)
    return number


def forget_end(tx: Connection) -> None:
    """What was appended in this transaction may have been undone: look again before the next record."""
    tx.info.pop(_END, None)


def _end(tx: Connection) -> tuple[Frontier, bytes]:
    """The right edge of the tree over all records, and the digest of the last one.

    Nobody else writes during a writing transaction: what it appended last needs no looking up. The edge is good for
    later ones too: the digest commits to every record before, so an equal one means an equal tree.
    """
    transaction, edge, digest = tx.info.pop(_END, (None, None, b""))
    if transaction is not None and transaction is tx.get_transaction():
        return edge, digest
    last = _LAST.first(tx)
    size, found = (0, GENESIS) if last is None else (last.seq, as_bytes(last.sha256))
    if edge is None or edge.size != size or digest != found:
        edge = tree.edge(tx, size)
    return edge, found


def _row(seq: int, draft: Draft, record: bytes, sha256: bytes) -> Row:
    """In the order of the table's columns."""
    about = draft.facts
    return (
        seq, to_micros(draft.time), draft.kind, draft.subject, draft.outcome, record, sha256,
        about.chip, about.measurement, about.vm, about.level,
    )  # fmt: skip


def get(tx: Connection, seq: int) -> StoredRecord | None:
    """Record number ``seq``."""
    row = tx.execute(select(audit).where(audit.c.seq == seq)).first()
    return None if row is None else stored_of(row)


def facts(tx: Connection, seq: int) -> Facts:
    """What record ``seq`` is about; nothing where there is no such record."""
    row = _FACTS.first(tx, {"number": seq})
    return NONE if row is None else Facts(row.chip, row.measurement, row.vm, row.level)


def find(tx: Connection, wanted: Filter = EVERY, *, limit: int | None = None) -> tuple[StoredRecord, ...]:
    """The newest ``limit`` records that fit, oldest first. Chip, measurement, VM, subject and kind are indexed."""
    query = _where(select(audit), wanted).order_by(audit.c.seq.desc()).limit(limit)
    return tuple(stored_of(row) for row in reversed(tx.execute(query).all()))


def beginning(tx: Connection, name: Literal["chip", "measurement"], start: str) -> tuple[str, ...]:
    """Two at most of the chips or measurements on record that begin with ``start`` (lower-case hex), by the index."""
    column, found = audit.c[name], list[str]()
    while len(found) < 2:
        later = column >= start if not found else column > found[-1]
        value = tx.scalar(select(column).where(later).order_by(column).limit(1))
        if value is None or not value.startswith(start):
            break
        found.append(value)
    return tuple(found)


def newest(
    tx: Connection, *, since: datetime | None = None, kind: str | None = None, limit: int | None = None
) -> tuple[StoredRecord, ...]:
    """The newest ``limit`` records of ``kind`` not older than ``since``, oldest first."""
    return find(tx, Filter(since=since, kinds=() if kind is None else (kind,)), limit=limit)


def stream(tx: Connection, wanted: Filter = EVERY) -> Iterator[StoredRecord]:
    """Every record that fits in order of its number, a few at a time."""
    query = _where(select(audit), wanted).order_by(audit.c.seq)
    for row in tx.execute(query, execution_options={"yield_per": 500}):
        yield stored_of(row)


def count(tx: Connection, wanted: Filter = EVERY) -> int:
    """How many records fit."""
    return tx.scalar(_where(select(func.count()).select_from(audit), wanted)) or 0


def _where(query: Select[Any], wanted: Filter) -> Select[Any]:
    exact = {"subject": wanted.subject, "outcome": wanted.outcome, "chip": wanted.chip}
    exact |= {"measurement": wanted.measurement, "vm": wanted.vm}
    for name, value in exact.items():
        if value is not None:
            query = query.where(audit.c[name] == value)
    if wanted.kinds:
        narrow = any((wanted.chip, wanted.measurement, wanted.vm, wanted.subject))
        # Half of all records may be of one kind: a planner without statistics must not take that index for the better.
        kind = func.coalesce(audit.c.kind, "") if narrow else audit.c.kind
        query = query.where(kind.in_(wanted.kinds))
    if wanted.since is not None:
        query = query.where(audit.c.time >= to_micros(wanted.since))
    if wanted.until is not None:
        query = query.where(audit.c.time < to_micros(wanted.until))
    if wanted.after is not None:
        query = query.where(audit.c.seq > wanted.after)
    return query if wanted.before is None else query.where(audit.c.seq < wanted.before)


def newest_accepted(tx: Connection, measurement: str) -> StoredRecord | None:
    """The newest accepted decision about a measurement (hex), however many were refused since."""
    query = _accepted(measurement).order_by(audit.c.time.desc(), audit.c.seq.desc()).limit(1)
    row = tx.execute(query).first()
    return None if row is None else stored_of(row)


def first_accepted(tx: Connection, measurement: str, since: datetime, until: datetime | None) -> int | None:
    """The number of the first accepted decision about a measurement (hex) not older than ``since``."""
    query = _accepted(measurement).where(audit.c.time >= to_micros(since))
    if until is not None:
        query = query.where(audit.c.time < to_micros(until))
    return tx.scalar(query.with_only_columns(audit.c.seq).order_by(audit.c.time, audit.c.seq).limit(1))


def _accepted(measurement: str) -> Select[Any]:
    # Written into the statement, not bound: only so do planners see that the index of accepted decisions is enough.
    kind, outcome = (literal(value, literal_execute=True) for value in (DECISION, AFFIRMING))
    return select(audit).where(audit.c.kind == kind, audit.c.outcome == outcome, audit.c.measurement == measurement)


def walk(tx: Connection) -> Iterator[StoredRecord]:
    """Every record in order of its number."""
    return stream(tx)


def stored_of(row: Any) -> StoredRecord:
    """A row of the whole table."""
    return StoredRecord(
        seq=row.seq,
        time=from_micros(row.time),
        kind=row.kind,
        subject=row.subject,
        outcome=row.outcome,
        record=as_bytes(row.record),
        sha256=as_bytes(row.sha256),
        facts=Facts(row.chip, row.measurement, row.vm, row.level),
    )
