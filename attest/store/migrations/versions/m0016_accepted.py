"""Accepted decisions by measurement and time, so that the newest is found however many were refused since."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016_accepted"
down_revision = "0015_token_keys"


def upgrade() -> None:
    """Add the index."""
    accepted = sa.text("kind = 'decision' AND outcome = 'affirming'")
    columns = ["measurement", "outcome", "time", "seq"]
    op.create_index("audit_accepted", "audit", columns, sqlite_where=accepted, postgresql_where=accepted)
