"""Statements of hosts by VM, so that its launches and their ends are found without looking through its decisions."""

from __future__ import annotations

from alembic import op

revision = "0013_launches_by_vm"
down_revision = "0012_levels"


def upgrade() -> None:
    """Add the index."""
    op.create_index("launches_vm", "launches", ["vm", "record"])
