"""Resources whose value is kept in a vault's KV engine."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011_kv"
down_revision = "0010_disk_keys"


def upgrade() -> None:
    """Add the column."""
    op.add_column("secrets", sa.Column("source", sa.String(16)))
