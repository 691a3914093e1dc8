"""Records are found by chip, measurement, VM, subject and kind. What old records say is read from their bytes."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004_questions"
down_revision = "0003_baseline"

_NAMES = {"chip": 128, "measurement": 96, "vm": 255}
_KINDS = ("decision", "reference-add", "reference-retire")


def upgrade() -> None:
    """Add the columns, fill them, index them."""
    for name, length in _NAMES.items():
        op.add_column("audit", sa.Column(name, sa.String(length)))
    _fill()
    op.create_index("audit_kind", "audit", ["kind", "seq"])
    op.create_index("audit_subject", "audit", ["subject", "seq"])
    for name in _NAMES:
        there = sa.text(f"{name} IS NOT NULL")
        op.create_index(f"audit_{name}", "audit", [name, "seq"], sqlite_where=there, postgresql_where=there)


def _fill() -> None:
    tx = op.get_bind()
    columns: list[Any] = [sa.column(name) for name in ("seq", "kind", "subject", "record", *_NAMES)]
    audit = sa.table("audit", *columns)
    last = 0
    while True:
        query = sa.select(audit).where(audit.c.kind.in_(_KINDS), audit.c.seq > last).order_by(audit.c.seq).limit(500)
        rows = tx.execute(query).all()
        if not rows:
            return
        for row in rows:
            facts = _facts(row.kind, row.subject, json.loads(bytes(row.record))["body"])
            tx.execute(sa.update(audit).where(audit.c.seq == row.seq).values(facts))
            last = row.seq


def _facts(kind: str, subject: str, body: Any) -> dict[str, str | None]:
    """As records of that time say it: releases and decisions named neither a VM nor, of their own, a chip."""
    if kind != "decision":
        return {"measurement": body.get("launch_digest"), "vm": subject}
    claims = body.get("claims") or {}
    measurement = next((claims[name] for name in ("measurement", "mrtd", "mrenclave") if name in claims), None)
    chip = claims["pck"]["ppid"] if "pck" in claims else claims.get("chip_id")
    return {"measurement": measurement, "chip": chip if chip and chip.strip("0") else None}
