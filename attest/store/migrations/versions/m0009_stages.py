"""A reference value's place in an upgrade: next with a canary, or with a date on which it retires."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009_stages"
down_revision = "0008_launches"


def upgrade() -> None:
    """Two columns; every value there is stays plainly in force."""
    op.add_column("reference_values", sa.Column("stage", sa.Text))
    op.add_column("reference_values", sa.Column("canary_releases", sa.Integer, nullable=False, server_default="0"))
