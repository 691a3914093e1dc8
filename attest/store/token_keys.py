"""Keys that sign tokens, as they are stored: sealed, each with when it begins to sign."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from attest.store.columns import as_bytes
from attest.store.schema import token_keys
from attest.store.times import from_micros, to_micros


@dataclass(frozen=True, slots=True)
class StoredTokenKey:
    """``wrapped_key`` is under the master key ``master_key_id``, and ``ciphertext`` under it the key's PEM."""

    kid: str
    algorithm: str
    begins: datetime
    added_by: str
    master_key_id: str
    wrapped_key: bytes
    ciphertext: bytes


def every(tx: Connection) -> tuple[StoredTokenKey, ...]:
    """All of them, by when they begin."""
    return tuple(
        StoredTokenKey(
            row.kid,
            row.algorithm,
            from_micros(row.begins),
            row.added_by,
            row.master_key_id,
            as_bytes(row.wrapped_key),
            as_bytes(row.ciphertext),
        )
        for row in tx.execute(select(token_keys).order_by(token_keys.c.begins))
    )


def add(tx: Connection, key: StoredTokenKey) -> None:
    """One more. Raises what the database does for a ``kid`` or a time that is there already: look first."""
    tx.execute(
        insert(token_keys).values(
            kid=key.kid,
            algorithm=key.algorithm,
            begins=to_micros(key.begins),
            added_by=key.added_by,
            master_key_id=key.master_key_id,
            wrapped_key=key.wrapped_key,
            ciphertext=key.ciphertext,
        )
    )


def erase(tx: Connection, kid: str) -> None:
    """It signs and verifies nothing any more."""
    tx.execute(delete(token_keys).where(token_keys.c.kid == kid))


def rewrapped(tx: Connection, kid: str, master_key_id: str, wrapped_key: bytes) -> None:
    """Replace the wrapped key of one."""
    values = {"master_key_id": master_key_id, "wrapped_key": wrapped_key}
    tx.execute(update(token_keys).where(token_keys.c.kid == kid).values(values))


def master_key_ids(tx: Connection) -> tuple[str, ...]:
    """The ids of the master keys that they are sealed under."""
    return tuple(sorted(tx.scalars(select(token_keys.c.master_key_id).distinct())))
