"""Of each decision about a chip: at which level of its firmware it was, so that a fleet is counted by an index."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0012_levels"
down_revision = "0011_kv"

_PARTS = ("fmc", "bootloader", "tee", "snp", "microcode")
_THERE = sa.text("level IS NOT NULL")


def upgrade() -> None:
    """Add the column, fill it, index it."""
    op.add_column("audit", sa.Column("level", sa.String(160)))
    _fill()
    op.create_index("audit_level", "audit", ["chip", "seq", "level"], sqlite_where=_THERE, postgresql_where=_THERE)


def _fill() -> None:
    tx = op.get_bind()
    columns: list[Any] = [sa.column(name) for name in ("seq", "kind", "chip", "record", "level")]
    audit = sa.table("audit", *columns)
    last = 0
    while True:
        wanted = (audit.c.kind == "decision", audit.c.chip.is_not(None), audit.c.seq > last)
        rows = tx.execute(sa.select(audit).where(*wanted).order_by(audit.c.seq).limit(500)).all()
        if not rows:
            return
        for row in rows:
            level = _level(json.loads(bytes(row.record))["body"])
            tx.execute(sa.update(audit).where(audit.c.seq == row.seq).values(level=level))
            last = row.seq


def _level(body: Any) -> str | None:
    """As records of that time say it."""
    claims, platform = body.get("claims") or {}, body.get("platform") or ""
    if "pck" in claims and isinstance(claims.get("tcb"), dict):
        return f"{platform} · FMSPC {claims['pck'].get('fmspc')} · {claims['tcb'].get('status') or ''}"[:160]
    reported = claims.get("reported_tcb")
    if isinstance(reported, dict):
        tcb = ", ".join(f"{name} {reported[name]}" for name in _PARTS if name in reported)
        return f"{platform} · {claims.get('product') or ''} · {tcb}"[:160]
    return None
