"""The tree over the records by leaves: one row for each record, with the hashes of all complete subtrees it ends."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014_leaves"
down_revision = "0013_launches_by_vm"

_STEP = 4096
_MOVE = sa.text(
    "SELECT number, hash FROM tree WHERE level = :level AND number >= :first AND number < :end ORDER BY number"
)


def upgrade() -> None:
    """Make the table, fill it from the old one, drop that."""
    leaves = op.create_table(
        "leaves",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("hashes", sa.LargeBinary, nullable=False),
    )
    tx = op.get_bind()
    size = tx.scalar(sa.text("SELECT max(number) + 1 FROM tree WHERE level = 0")) or 0
    for first in range(0, size, _STEP):
        rows = _rows(tx, first, min(size, first + _STEP)).items()
        if rows:
            tx.execute(sa.insert(leaves), [{"number": number, "hashes": hashes} for number, hashes in rows])
    op.drop_table("tree")


def _rows(tx: sa.Connection, first: int, end: int) -> dict[int, bytes]:
    """The rows of leaves ``first`` to ``end - 1``. A node that is missing stays so, and those above it in its row."""
    found: dict[int, bytes] = {}
    for level in range(end.bit_length()):
        span = {"level": level, "first": first >> level, "end": end >> level}
        for number, value in tx.execute(_MOVE, span):
            leaf = ((number + 1) << level) - 1
            below = found.get(leaf, b"")
            if len(below) == 32 * level:
                found[leaf] = below + bytes(value)
    return found
