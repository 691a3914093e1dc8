"""Hosts whose word about launches counts: their public keys, added and retired by operators."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from attest.store.columns import as_bytes
from attest.store.errors import AlreadyExists, NotFound
from attest.store.schema import hosts
from attest.store.times import from_micros, to_micros


@dataclass(frozen=True, slots=True)
class StoredHost:
    """``key`` is a PEM public key, ``key_id`` the SHA-256 of its SubjectPublicKeyInfo in hexadecimal."""

    key_id: str
    name: str
    key: bytes
    added: datetime
    added_by: str
    retired: datetime | None = None


def add(tx: Connection, host: StoredHost) -> None:
    """Raises AlreadyExists for a key that is known, retired ones included: whoever retired it had a reason."""
    if tx.scalar(select(hosts.c.key_id).where(hosts.c.key_id == host.key_id)) is not None:
        raise AlreadyExists(f"host key {host.key_id[:16]}: is known already")
    tx.execute(
        insert(hosts).values(
            key_id=host.key_id, name=host.name, key=host.key, added=to_micros(host.added), added_by=host.added_by
        )
    )


def retire(tx: Connection, name: str, now: datetime) -> tuple[StoredHost, ...]:
    """Every key of that host counts no more; returns them. Raises NotFound."""
    found = tuple(host for host in every(tx) if host.name == name and host.retired is None)
    if not found:
        raise NotFound(f"host {name!r}: has no key in force")
    tx.execute(update(hosts).where(hosts.c.key_id.in_([host.key_id for host in found])).values(retired=to_micros(now)))
    return found


def every(tx: Connection) -> tuple[StoredHost, ...]:
    """All of them, by when they were added."""
    rows = tx.execute(select(hosts).order_by(hosts.c.added, hosts.c.key_id))
    return tuple(
        StoredHost(
            row.key_id,
            row.name,
            as_bytes(row.key),
            from_micros(row.added),
            row.added_by,
            None if row.retired is None else from_micros(row.retired),
        )
        for row in rows
    )
