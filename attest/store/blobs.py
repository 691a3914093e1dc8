"""Bytes by content: evidence, endorsements and policies that audit records name by SHA-256."""

from __future__ import annotations

import hashlib

from sqlalchemy import Connection, select, text

from attest.store.columns import as_bytes
from attest.store.prepared import Prepared
from attest.store.schema import blobs

_PUT = Prepared(text("INSERT INTO blobs (sha256, data) VALUES (:sha256, :data) ON CONFLICT (sha256) DO NOTHING"))
"""The same words in SQLite and PostgreSQL."""


def put(tx: Connection, data: bytes) -> bytes:
    """Keep ``data``; returns its SHA-256 (32 bytes). Putting the same bytes again changes nothing."""
    digest = hashlib.sha256(data).digest()
    _PUT.change(tx, {"sha256": digest, "data": data})
    return digest


class Kept:
    """Bytes that a transaction will put: who makes a record names them before it, and nobody waits for that."""

    def __init__(self) -> None:
        self._items: dict[bytes, bytes] = {}

    def add(self, data: bytes) -> bytes:
        """Remember ``data``; returns its SHA-256 (32 bytes)."""
        digest = hashlib.sha256(data).digest()
        self._items[digest] = data
        return digest

    def put(self, tx: Connection) -> None:
        """Keep all of them."""
        _PUT.change_all(tx, [{"sha256": digest, "data": data} for digest, data in self._items.items()])


def get(tx: Connection, digest: bytes) -> bytes | None:
    """The bytes of that digest as stored; the caller compares the digest when it matters."""
    data = tx.scalar(select(blobs.c.data).where(blobs.c.sha256 == digest))
    return None if data is None else as_bytes(data)
