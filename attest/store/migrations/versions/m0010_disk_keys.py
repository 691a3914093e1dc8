"""Keys that wait to replace another, and what is known of the headers of the disks they open."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010_disk_keys"
down_revision = "0009_stages"


def upgrade() -> None:
    """Add a column and make the tables."""
    op.add_column("secrets", sa.Column("pending", sa.Boolean))
    op.create_table(
        "luks_headers",
        sa.Column("path", sa.String(200), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("sha256", sa.LargeBinary(32), primary_key=True),
        sa.Column("added", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "rotations",
        sa.Column("path", sa.String(200), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("started", sa.BigInteger, nullable=False),
        sa.Column("started_by", sa.String(255), nullable=False),
        sa.Column("vm", sa.String(128)),
    )
    op.create_table(
        "rotation_offers",
        sa.Column("path", sa.String(200), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("decision", sa.BigInteger, primary_key=True, autoincrement=False),
    )
