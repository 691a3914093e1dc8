"""Decisions are counted by outcome and day from an index alone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006_decisions_by_day"
down_revision = "0005_release_conditions"


def upgrade() -> None:
    """Add the index."""
    decisions = sa.text("kind = 'decision'")
    op.create_index("audit_decisions", "audit", ["outcome", "time"], sqlite_where=decisions, postgresql_where=decisions)
