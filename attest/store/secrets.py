"""Resources under envelope encryption, by path and version. This module moves ciphertext; it never sees a secret."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, func, insert, select, update

from attest.store.errors import AlreadyExists, NotFound
from attest.store.prepared import Prepared
from attest.store.schema import secrets
from attest.store.times import from_micros, to_micros

_IN_FORCE = and_(secrets.c.retired.is_(None), secrets.c.pending.is_not(True))
_SHOWN = tuple(
    secrets.c[name]
    for name in ("path", "version", "created", "created_by", "size", "only_for", "retired", "pending", "source")
)
"""Without what is sealed, which is most of a row."""


@dataclass(frozen=True, slots=True)
class SecretEntry:
    """What may be said about a resource without its value; ``size`` in bytes of the clear value.

    ``only_for``: names of reference values; a guest must match one of them. ``None``: any accepted guest.
    """

    path: str
    version: int
    created: datetime
    created_by: str
    size: int
    only_for: tuple[str, ...] | None
    retired: datetime | None
    pending: bool = False
    source: str | None = None


@dataclass(frozen=True, slots=True)
class SealedRow:
    """The ciphertext of the newest version in force."""

    path: str
    version: int
    master_key_id: str
    wrapped_key: bytes
    ciphertext: bytes
    only_for: tuple[str, ...] | None = None
    source: str | None = None


_SEALED = Prepared(
    select(secrets)
    .where(secrets.c.path == bindparam("its_path"), _IN_FORCE)
    .order_by(secrets.c.version.desc())
    .limit(1)
)


def next_version(tx: Connection, path: str, *, replace: bool) -> int:
    """The version a new value of ``path`` gets. Raises AlreadyExists if one is in force and ``replace`` is false."""
    if not replace and sealed(tx, path) is not None:
        raise AlreadyExists(f"resource {path}: exists already", hint="replace it explicitly, or delete it first")
    newest = tx.scalar(select(func.max(secrets.c.version)).where(secrets.c.path == path))
    return int(newest or 0) + 1


def add(tx: Connection, row: SealedRow, *, size: int, now: datetime, actor: str) -> None:
    """Store a version; earlier ones are retired and their ciphertext erased."""
    _erase(tx, row.path, now)
    _insert(tx, row, size=size, now=now, actor=actor)


def add_pending(tx: Connection, row: SealedRow, *, size: int, now: datetime, actor: str) -> None:
    """Store a version that waits: the one in force stays."""
    _insert(tx, row, size=size, now=now, actor=actor, pending=True)


def _insert(
    tx: Connection, row: SealedRow, *, size: int, now: datetime, actor: str, pending: bool | None = None
) -> None:
    tx.execute(
        insert(secrets).values(
            path=row.path,
            version=row.version,
            created=to_micros(now),
            created_by=actor,
            size=size,
            only_for=None if row.only_for is None else json.dumps(row.only_for),
            master_key_id=row.master_key_id,
            wrapped_key=row.wrapped_key,
            ciphertext=row.ciphertext,
            pending=pending,
            source=row.source,
        )
    )


def pending(tx: Connection, path: str) -> SealedRow | None:
    """The version that waits to replace the one in force."""
    return _first(tx, and_(secrets.c.path == path, secrets.c.retired.is_(None), secrets.c.pending.is_(True)))


def promote(tx: Connection, path: str, version: int, *, now: datetime) -> None:
    """Put the pending version in force; the one before is retired and erased."""
    mine = and_(secrets.c.path == path, secrets.c.version == version)
    tx.execute(update(secrets).where(mine).values(pending=None))
    _erase(tx, path, now, secrets.c.version != version)


def drop_pending(tx: Connection, path: str, *, now: datetime) -> None:
    """Retire and erase the version that waits. Its number is not given again."""
    _erase(tx, path, now, secrets.c.pending.is_(True))


def retire(tx: Connection, path: str, *, now: datetime) -> int:
    """Erase the resource; returns the version that was in force. Raises NotFound."""
    row = sealed(tx, path)
    if row is None:
        raise NotFound(f"resource {path}: not found")
    _erase(tx, path, now)
    return row.version


def sealed(tx: Connection, path: str) -> SealedRow | None:
    """The version in force."""
    row = _SEALED.first(tx, {"its_path": path})
    return None if row is None else _sealed(row)


def _first(tx: Connection, which: ColumnElement[bool]) -> SealedRow | None:
    row = tx.execute(select(secrets).where(which).order_by(secrets.c.version.desc()).limit(1)).first()
    return None if row is None else _sealed(row)


def _sealed(row: Any) -> SealedRow:
    return SealedRow(
        row.path, row.version, row.master_key_id, row.wrapped_key, row.ciphertext, _names(row.only_for), row.source
    )


def all_sealed(tx: Connection) -> tuple[SealedRow, ...]:
    """Every row that holds a value: those in force, and those that wait."""
    rows = tx.execute(select(secrets).where(secrets.c.retired.is_(None)).order_by(secrets.c.path, secrets.c.version))
    return tuple(_sealed(row) for row in rows)


def rewrapped(tx: Connection, row: SealedRow, master_key_id: str, wrapped_key: bytes) -> None:
    """Replace the wrapped key of one version."""
    tx.execute(
        update(secrets)
        .where(secrets.c.path == row.path, secrets.c.version == row.version)
        .values(master_key_id=master_key_id, wrapped_key=wrapped_key)
    )


def master_key_ids(tx: Connection) -> tuple[str, ...]:
    """The ids of the master keys that values are sealed under."""
    found = select(secrets.c.master_key_id).where(secrets.c.retired.is_(None)).distinct()
    return tuple(sorted(key_id for key_id in tx.scalars(found) if key_id is not None))


def entries(tx: Connection, *, history: bool = False) -> tuple[SecretEntry, ...]:
    """Resources in force by path, or with ``history`` every version there ever was."""
    query = select(*_SHOWN).order_by(secrets.c.path, secrets.c.version)
    if not history:
        query = query.where(_IN_FORCE)
    return tuple(_entry(row) for row in tx.execute(query).all())


def entry(tx: Connection, path: str) -> SecretEntry | None:
    """The resource in force at ``path``."""
    row = tx.execute(select(*_SHOWN).where(secrets.c.path == path, _IN_FORCE)).first()
    return None if row is None else _entry(row)


def _entry(row: Row[tuple[object, ...]]) -> SecretEntry:
    retired = None if row.retired is None else from_micros(row.retired)
    return SecretEntry(
        path=row.path,
        version=row.version,
        created=from_micros(row.created),
        created_by=row.created_by,
        size=row.size,
        only_for=_names(row.only_for),
        retired=retired,
        pending=bool(row.pending),
        source=row.source,
    )


def _names(value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(json.loads(value))


def _erase(tx: Connection, path: str, now: datetime, *which: ColumnElement[bool]) -> None:
    """Retire every version that holds a value, or those of them that ``which`` names."""
    tx.execute(
        update(secrets)
        .where(secrets.c.path == path, secrets.c.retired.is_(None), *which)
        .values(retired=to_micros(now), wrapped_key=None, ciphertext=None)
    )
