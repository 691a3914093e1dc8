"""Conditions of resources, releases and approvals counted by them, and where VMs were seen."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005_release_conditions"
down_revision = "0004_questions"

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """New tables, and what a decision found out about its guest."""
    op.add_column("decisions", sa.Column("facts", sa.Text))
    op.create_table(
        "conditions",
        sa.Column("path", sa.String(200), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("set_at", sa.BigInteger, nullable=False),
        sa.Column("set_by", sa.String(255), nullable=False),
    )
    op.create_table(
        "releases",
        sa.Column("id", _NUMBER, sa.ForeignKey("audit.seq"), primary_key=True, autoincrement=False),
        sa.Column("path", sa.String(200), nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
    )
    op.create_index("releases_path_time", "releases", ["path", "time"])
    op.create_table(
        "approvals",
        sa.Column("id", _NUMBER, sa.ForeignKey("audit.seq"), primary_key=True, autoincrement=False),
        sa.Column("path", sa.String(200), nullable=False),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("operator", sa.String(255), nullable=False),
        sa.Column("given", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=False),
    )
    op.create_index("approvals_path_expires", "approvals", ["path", "expires"])
    op.create_table(
        "instances",
        sa.Column("vm", sa.String(128), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("machine", sa.String(128), nullable=False),
        sa.Column("instance", sa.String(64), nullable=False),
        sa.Column("seen", sa.BigInteger, nullable=False),
    )
