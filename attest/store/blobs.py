"""Bytes by content: evidence, endorsements and policies that audit records name by SHA-256."""

from __future__ import annotations

import hashlib

from sqlalchemy import Connection, select, text

from attest.store.columns import as_bytes
from attest.store.schema import blobs

_PUT = text("INSERT INTO blobs (sha256, data) VALUES (:sha256, :data) ON CONFLICT (sha256) DO NOTHING")
"""The same words in SQLite and PostgreSQL."""


def put(tx: Connection, data: bytes) -> bytes:
    """Keep ``data``; returns its SHA-256 (32 bytes). Putting the same bytes again changes nothing."""
    digest = hashlib.sha256(data).digest()
    tx.execute(_PUT, {"sha256": digest, "data": data})
    return digest


def get(tx: Connection, digest: bytes) -> bytes | None:
    """The bytes of that digest as stored; the caller compares the digest when it matters."""
    data = tx.scalar(select(blobs.c.data).where(blobs.c.sha256 == digest))
    return None if data is None else as_bytes(data)
