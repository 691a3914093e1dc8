"""Headers of encrypted disks by the version of their key, and which key is being replaced.

A rotation's row is there from its start until its guest has removed the old keyslot. Its ``version`` is that of the
next key as long as that waits (column ``pending`` of ``secrets``), and then that of the key in force.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from attest.store.columns import as_bytes
from attest.store.schema import luks_headers, rotation_offers, rotations
from attest.store.times import from_micros, to_micros


@dataclass(frozen=True, slots=True)
class StoredRotation:
    """``vm`` is the VM that takes part, as its init-data names it, once one does; empty for one without a name."""

    path: str
    version: int
    started: datetime
    started_by: str
    vm: str | None


def headers(tx: Connection, path: str, version: int) -> tuple[str, ...]:
    """The digests (hexadecimal) the disk's header may have under that version of its key, sorted."""
    found = select(luks_headers.c.sha256).where(luks_headers.c.path == path, luks_headers.c.version == version)
    return tuple(sorted(as_bytes(digest).hex() for digest in tx.scalars(found)))


def add_header(tx: Connection, path: str, version: int, digest: str, now: datetime) -> bool:
    """Accept one more; false where it was accepted already."""
    if digest in headers(tx, path, version):
        return False
    tx.execute(
        insert(luks_headers).values(path=path, version=version, sha256=bytes.fromhex(digest), added=to_micros(now))
    )
    return True


def forget_headers(tx: Connection, path: str) -> None:
    """Nothing is known of the disk's header any more."""
    tx.execute(delete(luks_headers).where(luks_headers.c.path == path))


def move_headers(tx: Connection, path: str, before: int, after: int, now: datetime) -> None:
    """What was accepted under one version is accepted under another."""
    for digest in headers(tx, path, before):
        add_header(tx, path, after, digest, now)
    tx.execute(delete(luks_headers).where(luks_headers.c.path == path, luks_headers.c.version == before))


def rotation(tx: Connection, path: str) -> StoredRotation | None:
    """The rotation that has not ended."""
    row = tx.execute(select(rotations).where(rotations.c.path == path)).first()
    if row is None:
        return None
    return StoredRotation(row.path, row.version, from_micros(row.started), row.started_by, row.vm)


def begin(tx: Connection, path: str, version: int, now: datetime, actor: str) -> None:
    """A rotation to the pending key of that version."""
    tx.execute(insert(rotations).values(path=path, version=version, started=to_micros(now), started_by=actor))


def change(tx: Connection, path: str, *, version: int, vm: str | None) -> None:
    """Which key it is about from now on, and whose."""
    tx.execute(update(rotations).where(rotations.c.path == path).values(version=version, vm=vm))


def end(tx: Connection, path: str) -> None:
    """It is over."""
    tx.execute(delete(rotations).where(rotations.c.path == path))
    tx.execute(delete(rotation_offers).where(rotation_offers.c.path == path))


def offer(tx: Connection, path: str, version: int, decision: int) -> None:
    """The guest of that decision was given that version of the key."""
    if not offered(tx, path, version, decision):
        tx.execute(insert(rotation_offers).values(path=path, version=version, decision=decision))


def offered(tx: Connection, path: str, version: int, decision: int) -> bool:
    """Whether it was."""
    found = select(rotation_offers.c.decision).where(
        rotation_offers.c.path == path, rotation_offers.c.version == version, rotation_offers.c.decision == decision
    )
    return tx.execute(found).first() is not None
