"""The tables as they were when migrations began: schema version 3."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003_baseline"
down_revision = None

# SQLite numbers rows by itself only in a column of type INTEGER, which holds 64 bits there.
_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make them."""
    _audit()
    _decisions()
    _rules()
    _secrets()


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("seq", _NUMBER, primary_key=True, autoincrement=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("outcome", sa.String(32), nullable=False),
        sa.Column("record", sa.LargeBinary, nullable=False),
        sa.Column("sha256", sa.LargeBinary(32), nullable=False),
        sa.CheckConstraint("seq > 0", name="audit_seq_positive"),
    )
    op.create_index("audit_time", "audit", ["time"])
    op.create_table(
        "tree",
        sa.Column("level", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "checkpoints",
        sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("root", sa.LargeBinary(32), nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("note", sa.LargeBinary, nullable=False),
    )


def _decisions() -> None:
    op.create_table(
        "decisions",
        sa.Column("id", _NUMBER, sa.ForeignKey("audit.seq"), primary_key=True, autoincrement=False),
        sa.Column("token_id", sa.String(64), nullable=False, unique=True),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("emulated", sa.Boolean, nullable=False),
        sa.Column("tee_pubkey", sa.Text, nullable=False),
        sa.Column("references", sa.Text, nullable=False),
        sa.Column("revoked", sa.BigInteger),
    )
    op.create_index("decisions_revoked", "decisions", ["revoked"])
    op.create_table(
        "sessions",
        sa.Column("id_sha256", sa.LargeBinary(32), primary_key=True),
        sa.Column("nonce", sa.String(64), nullable=False, unique=True),
        sa.Column("tee", sa.String(32), nullable=False),
        sa.Column("version", sa.String(16), nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=False),
        sa.Column("nonce_used", sa.BigInteger),
        sa.Column("decision", _NUMBER, sa.ForeignKey("decisions.id")),
    )
    op.create_index("sessions_expires", "sessions", ["expires"])


def _rules() -> None:
    op.create_table(
        "settings",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "blobs",
        sa.Column("sha256", sa.LargeBinary(32), primary_key=True),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "reference_values",
        sa.Column("id", _NUMBER, primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("launch_digest", sa.LargeBinary(48), nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.Column("added", sa.BigInteger, nullable=False),
        sa.Column("added_by", sa.String(255), nullable=False),
        sa.Column("retired", sa.BigInteger),
        sa.Column("retired_by", sa.String(255)),
    )
    op.create_index("reference_values_name", "reference_values", ["name"])


def _secrets() -> None:
    op.create_table(
        "secrets",
        sa.Column("path", sa.String(200), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("created_by", sa.String(255), nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("only_for", sa.Text),
        sa.Column("retired", sa.BigInteger),
        sa.Column("master_key_id", sa.String(32)),
        sa.Column("wrapped_key", sa.LargeBinary),
        sa.Column("ciphertext", sa.LargeBinary),
    )
