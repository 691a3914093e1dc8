"""What the service stands on, put on record whenever it is another than before: collateral, its own keys, who has which
role, settings that decide.

Nobody has to announce such a change, and many cannot be announced: a file that an operator copies into a folder, a list
that a worker fetched, a certificate that was replaced before a start. So the service looks, and compares with what the
log said last. Each record holds the difference; the whole inventory and the bytes of what is new are kept by content.

Replicas with the same inventory share a record. One that differs from the others says so once, and again when it
changes; its records are found by its name.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from attest.audit.canonical import Json, canonical, plain
from attest.audit.errors import AuditBroken
from attest.audit.record import Event
from attest.broker.operations import By
from attest.broker.questions import read_record
from attest.broker.trail import append
from attest.store import blobs, records
from attest.store.engine import Database
from attest.store.records import Filter, StoredRecord

_NAME_MAX = 200


@dataclass(frozen=True, slots=True)
class Piece:
    """One thing that is stood on. ``facts`` are plain data and tell it from another one; ``data`` are its bytes, where
    they are worth keeping.
    """

    facts: Mapping[str, object]
    data: tuple[bytes, ...] = ()


Inventory = Mapping[str, Piece]


def replica_name(listens: object) -> str:
    """What this replica's records are found by: the machine's name and where guests reach it, for there may be several
    on one machine, each with files of its own.
    """
    return f"{platform.node() or 'unnamed'} {listens}"[:_NAME_MAX]


def record_change(database: Database, kind: str, inventory: Inventory, replica: str, by: By) -> int | None:
    """The number of the record, ``None`` where the log says that already. ``kind``: of `audit.record.NOTICED`.

    Raises AuditBroken where the last record or its inventory was changed.
    """
    now = {name: plain(piece.facts) for name, piece in sorted(inventory.items())}
    text = canonical(now)
    digest = hashlib.sha256(text).hexdigest()
    with database.read() as tx:
        if digest in _said(tx, kind, replica):
            return None
    with database.write() as tx:
        said = _said(tx, kind, replica)
        if digest in said:
            return None
        before = _inventory(tx, said[-1]) if said else {}
        blobs.put(tx, text)
        changed = {name for name in now if name not in before or now[name] != before[name]}
        for name in sorted(changed):
            for data in inventory[name].data:
                blobs.put(tx, data)
        body = {"inventory": digest, **_difference(before, now)}
        return append(tx, Event(by.now, kind, replica, "changed" if said else "first seen", by.actor, body))


def _said(tx: Connection, kind: str, replica: str) -> tuple[str, ...]:
    """Digests of the inventories that count as known: the newest of any replica, then the newest of this one."""
    wanted = (Filter(kinds=(kind,)), Filter(kinds=(kind,), subject=replica))
    found = [stored for one in wanted for stored in records.find(tx, one, limit=1)]
    return tuple(_digest(stored) for stored in found)


def _digest(stored: StoredRecord) -> str:
    return str(read_record(stored)["body"]["inventory"])


def _inventory(tx: Connection, digest: str) -> dict[str, Json]:
    data = blobs.get(tx, bytes.fromhex(digest))
    if data is None or hashlib.sha256(data).hexdigest() != digest:
        raise AuditBroken(f"inventory {digest[:16]}: is not in the database as it was recorded")
    found: dict[str, Any] = json.loads(data)
    return found


def _difference(before: Mapping[str, Json], now: Mapping[str, Json]) -> dict[str, object]:
    """By name: what is new, what is gone, and of what changed both sides."""
    return {
        "added": {name: now[name] for name in now if name not in before},
        "removed": {name: before[name] for name in before if name not in now},
        "changed": {
            name: {"before": before[name], "after": now[name]}
            for name in now
            if name in before and now[name] != before[name]
        },
    }
