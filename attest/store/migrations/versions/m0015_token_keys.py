"""Keys that sign tokens, sealed, where all replicas find them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015_token_keys"
down_revision = "0014_leaves"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "token_keys",
        sa.Column("kid", sa.String(64), primary_key=True),
        sa.Column("algorithm", sa.String(16), nullable=False),
        sa.Column("begins", sa.BigInteger, nullable=False, unique=True),
        sa.Column("added_by", sa.String(255), nullable=False),
        sa.Column("master_key_id", sa.String(32), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary, nullable=False),
        sa.Column("ciphertext", sa.LargeBinary, nullable=False),
    )
