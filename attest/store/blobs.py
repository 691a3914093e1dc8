"""Bytes by content: evidence, endorsements and policies that audit records name by SHA-256."""

from __future__ import annotations

import hashlib

from sqlalchemy import Connection, insert, select

from attest.store.columns import as_bytes
from attest.store.schema import blobs


def put(tx: Connection, data: bytes) -> bytes:
    """Keep ``data``; returns its SHA-256 (32 bytes). Putting the same bytes again changes nothing."""
    digest = hashlib.sha256(data).digest()
    if tx.scalar(select(blobs.c.sha256).where(blobs.c.sha256 == digest)) is None:
        tx.execute(insert(blobs).values(sha256=digest, data=data))
    return digest


def get(tx: Connection, digest: bytes) -> bytes | None:
    """The bytes of that digest as stored; the caller compares the digest when it matters."""
    data = tx.scalar(select(blobs.c.data).where(blobs.c.sha256 == digest))
    return None if data is None else as_bytes(data)
