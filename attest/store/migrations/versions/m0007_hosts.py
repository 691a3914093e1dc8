"""Hosts whose signed launch records are believed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007_hosts"
down_revision = "0006_decisions_by_day"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "hosts",
        sa.Column("key_id", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.Column("added", sa.BigInteger, nullable=False),
        sa.Column("added_by", sa.String(255), nullable=False),
        sa.Column("retired", sa.BigInteger),
    )
