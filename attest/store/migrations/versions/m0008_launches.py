"""Statements of hosts by what was signed, so that one that comes twice is on record once; those on record are noted."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0008_launches"
down_revision = "0007_hosts"


def upgrade() -> None:
    """Make the table, and fill it from the audit log."""
    launches = op.create_table(
        "launches",
        sa.Column("key_id", sa.String(64), primary_key=True),
        sa.Column("statement", sa.String(64), primary_key=True),
        sa.Column("record", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("host", sa.String(64), nullable=False),
        sa.Column("vm", sa.String(64), nullable=False),
        sa.Column("measurement", sa.String(96)),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(["record"], ["audit.seq"]),
    )
    op.create_index("launches_measurement_time", "launches", ["measurement", "time"])
    known: set[tuple[str, str]] = set()
    for row in op.get_bind().execute(sa.text("SELECT seq, time, record FROM audit WHERE kind = 'launch' ORDER BY seq")):
        body = json.loads(bytes(row.record))["body"]
        statement = _statement(bytes.fromhex(body["envelope"]))
        if statement is None or (body["key_id"], statement) in known:
            continue  # until now the same statement could be on record twice: the first one counts
        known.add((body["key_id"], statement))
        values = {"key_id": body["key_id"], "statement": statement, "record": row.seq, "host": body["host"]}
        values |= {"vm": body["vm"], "measurement": body["measurement"], "time": min(row.time, _micros(body["time"]))}
        op.get_bind().execute(sa.insert(launches).values(values))


def _statement(digest: bytes) -> str | None:
    """SHA-256 of what the envelope of that digest signs."""
    data = op.get_bind().scalar(sa.text("SELECT data FROM blobs WHERE sha256 = :it"), {"it": digest})
    return None if data is None else hashlib.sha256(b64decode(json.loads(bytes(data))["payload"])).hexdigest()


def _micros(text: str) -> int:
    """A host's time; one that is none was let in once, and counts as long ago."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return 0
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1_000_000)
