"""What decisions are made by: the policy in force, the reference values, and the generation both belong to.

Every change of either raises ``generation`` in the same transaction. A decision remembers the generation it was made
under, so a token from before a change can be told from one after it, in any worker process.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from attest.store.errors import AlreadyExists, NotFound
from attest.store.schema import references, settings
from attest.store.times import from_micros, to_micros

_GENERATION = "generation"
_POLICY = "policy_sha256"
_SIGNATURE = "policy_signature_sha256"


@dataclass(frozen=True, slots=True)
class StoredReference:
    """One registered reference value; ``document`` is the file's bytes as they were added, ``id`` counts them."""

    name: str
    launch_digest: bytes
    document: bytes
    added: datetime
    added_by: str
    retired: datetime | None
    retired_by: str | None
    id: int = 0


def generation(tx: Connection) -> int:
    """The number of the rules in force."""
    return int(tx.scalars(select(settings.c.value).where(settings.c.name == _GENERATION)).one())


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
    tx: Connection, *, name: str, launch_digest: bytes, document: bytes, now: datetime, actor: str
) -> None:
    """Register a reference value. Raises AlreadyExists while one of that name is in force."""
    if any(entry.name == name for entry in active_references(tx)):
        raise AlreadyExists(f"reference value {name!r}: registered already", hint=f"attest reference retire {name}")
    tx.execute(
        insert(references).values(
            name=name, launch_digest=launch_digest, document=document, added=to_micros(now), added_by=actor
        )
    )
    next_generation(tx)


def retire_reference(tx: Connection, name: str, *, now: datetime, actor: str) -> StoredReference:
    """Take a reference value out of force; returns it. Raises NotFound."""
    found = next((entry for entry in active_references(tx) if entry.name == name), None)
    if found is None:
        raise NotFound(f"reference value {name!r}: none of that name is in force", hint="attest reference list")
    tx.execute(
        update(references)
        .where(references.c.name == name, references.c.retired.is_(None))
        .values(retired=to_micros(now), retired_by=actor)
    )
    next_generation(tx)
    return found


def active_references(tx: Connection) -> tuple[StoredReference, ...]:
    """Reference values in force, oldest first."""
    return tuple(entry for entry in all_references(tx) if entry.retired is None)


def all_references(tx: Connection) -> tuple[StoredReference, ...]:
    """Every reference value ever registered, oldest first."""
    rows = tx.execute(select(references).order_by(references.c.id)).all()
    return tuple(
        StoredReference(
            name=row.name,
            launch_digest=row.launch_digest,
            document=row.document,
            added=from_micros(row.added),
            added_by=row.added_by,
            retired=None if row.retired is None else from_micros(row.retired),
            retired_by=row.retired_by,
            id=row.id,
        )
        for row in rows
    )


def next_generation(tx: Connection) -> None:
    """Everything decided before is from before a change: sessions and tokens on it have to attest again."""
    value = str(generation(tx) + 1)
    tx.execute(update(settings).where(settings.c.name == _GENERATION).values(value=value))
