"""What decisions are made by: the policy in force, the reference values, and the generation both belong to.

Every change of either raises ``generation`` in the same transaction. A decision remembers the generation it was made
under, so a token from before a change can be told from one after it, in any worker process.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from attest.store.errors import AlreadyExists, NotFound, StoreUnsupported
from attest.store.prepared import Prepared
from attest.store.schema import references, settings
from attest.store.times import from_micros, to_micros
from policy.stage import Stage, stage_from_json, stage_json

_GENERATION = "generation"
_POLICY = "policy_sha256"
_SIGNATURE = "policy_signature_sha256"
_GET_GENERATION = Prepared(select(settings.c.value).where(settings.c.name == _GENERATION))


@dataclass(frozen=True, slots=True)
class StoredReference:
    """One registered reference value; ``document`` is the file's bytes as they were added, ``id`` counts them.

    ``stage`` is its place in an upgrade, ``canary_releases`` how many keys went out on it before it was promoted.
    """

    name: str
    launch_digest: bytes
    document: bytes
    added: datetime
    added_by: str
    retired: datetime | None
    retired_by: str | None
    id: int = 0
    stage: Stage | None = None
    canary_releases: int = 0


def generation(tx: Connection) -> int:
    """The number of the rules in force."""
    row = _GET_GENERATION.first(tx)
    if row is None:
        raise StoreUnsupported("database: no generation of rules in it", hint="attest init makes one")
    return int(row.value)


def active_policy(tx: Connection) -> bytes | None:
    """SHA-256 (32 bytes) of the policy in force; its bytes are a blob."""
    value = tx.scalar(select(settings.c.value).where(settings.c.name == _POLICY))
    return None if value is None else bytes.fromhex(value)


def active_signature(tx: Connection) -> bytes | None:
    """SHA-256 (32 bytes) of the signatures of the policy in force, a blob too; ``None`` where it was not signed."""
    value = tx.scalar(select(settings.c.value).where(settings.c.name == _SIGNATURE))
    return None if value is None else bytes.fromhex(value)


def set_policy(tx: Connection, sha256: bytes, signature: bytes | None = None) -> None:
    """Put a policy in force, with the digest of its signatures where it has some."""
    tx.execute(delete(settings).where(settings.c.name.in_((_POLICY, _SIGNATURE))))
    tx.execute(insert(settings).values(name=_POLICY, value=sha256.hex()))
    if signature is not None:
        tx.execute(insert(settings).values(name=_SIGNATURE, value=signature.hex()))
    next_generation(tx)


def add_reference(
    tx: Connection,
    *,
    name: str,
    launch_digest: bytes,
    document: bytes,
    now: datetime,
    actor: str,
    stage: Stage | None = None,
) -> None:
    """Register a reference value. Raises AlreadyExists while one of that name is in force."""
    if find_reference(tx, name) is not None:
        raise AlreadyExists(f"reference value {name!r}: registered already", hint=f"attest reference retire {name}")
    tx.execute(
        insert(references).values(
            name=name,
            launch_digest=launch_digest,
            document=document,
            added=to_micros(now),
            added_by=actor,
            stage=_stage_text(stage),
        )
    )
    next_generation(tx)


def set_stage(tx: Connection, name: str, stage: Stage | None) -> None:
    """Change the stage of the value of that name that is in force."""
    tx.execute(
        update(references)
        .where(references.c.name == name, references.c.retired.is_(None))
        .values(stage=_stage_text(stage))
    )
    next_generation(tx)


def count_canary(tx: Connection, name: str, most: int) -> bool:
    """Count one release on a next value; false where ``most`` are counted already. No new generation."""
    done = tx.execute(
        update(references)
        .where(references.c.name == name, references.c.retired.is_(None), references.c.canary_releases < most)
        .values(canary_releases=references.c.canary_releases + 1)
    )
    return done.rowcount == 1


def _stage_text(stage: Stage | None) -> str | None:
    return None if stage is None else json.dumps(stage_json(stage))


def retire_reference(tx: Connection, name: str, *, now: datetime, actor: str) -> StoredReference:
    """Take a reference value out of force; returns it. Raises NotFound."""
    found = get_reference(tx, name)
    tx.execute(
        update(references)
        .where(references.c.name == name, references.c.retired.is_(None))
        .values(retired=to_micros(now), retired_by=actor)
    )
    next_generation(tx)
    return found


def find_reference(tx: Connection, name: str) -> StoredReference | None:
    """The value of that name that is in force."""
    row = tx.execute(select(references).where(references.c.name == name, references.c.retired.is_(None))).first()
    return None if row is None else _stored(row)


def get_reference(tx: Connection, name: str) -> StoredReference:
    """The value of that name that is in force, or NotFound."""
    found = find_reference(tx, name)
    if found is None:
        raise NotFound(f"reference value {name!r}: none of that name is in force", hint="attest reference list")
    return found


def active_references(tx: Connection) -> tuple[StoredReference, ...]:
    """Reference values in force, oldest first; those that are next, or retire on a date, among them."""
    rows = tx.execute(select(references).where(references.c.retired.is_(None)).order_by(references.c.id))
    return tuple(map(_stored, rows))


def all_references(tx: Connection) -> tuple[StoredReference, ...]:
    """Every reference value ever registered, oldest first."""
    return tuple(map(_stored, tx.execute(select(references).order_by(references.c.id))))


def _stored(row: Row[Any]) -> StoredReference:
    return StoredReference(
        name=row.name,
        launch_digest=row.launch_digest,
        document=row.document,
        added=from_micros(row.added),
        added_by=row.added_by,
        retired=None if row.retired is None else from_micros(row.retired),
        retired_by=row.retired_by,
        id=row.id,
        stage=None if row.stage is None else stage_from_json(json.loads(row.stage)),
        canary_releases=row.canary_releases,
    )


def next_generation(tx: Connection) -> None:
    """Everything decided before is from before a change: sessions and tokens on it have to attest again."""
    value = str(generation(tx) + 1)
    tx.execute(update(settings).where(settings.c.name == _GENERATION).values(value=value))
