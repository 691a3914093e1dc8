"""Tables of the service's database as this program wants them: what the migrations up to ``REVISION`` make.

Times are integers, microseconds since 1970-01-01 UTC, so that SQLite and PostgreSQL compare them alike. Digests and
ciphertexts are binary, everything else is text. Two rules hold for every table: no secret is stored in clear, and rows
of ``audit``, ``leaves`` and ``blobs`` are only ever inserted.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

REVISION = "0016_accepted"
"""The newest of ``attest/store/migrations/versions``. Named here so that a start needs no Alembic."""

metadata = MetaData()

versions = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))
"""Alembic's own table: which revision the database has. Not of ours, hence metadata of its own."""

# SQLite numbers rows by itself only in a column of type INTEGER, which holds 64 bits there.
Number = BigInteger().with_variant(Integer, "sqlite")

settings = Table(
    "settings",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)
"""One row per fact about the whole database: ``generation``, ``policy_sha256``, and ``schema``, which is the revision
again for programs from before there were migrations: they must refuse what they do not know."""

sessions = Table(
    "sessions",
    metadata,
    Column("id_sha256", LargeBinary(32), primary_key=True),
    Column("nonce", String(64), nullable=False, unique=True),
    Column("tee", String(32), nullable=False),
    Column("version", String(16), nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("nonce_used", BigInteger),
    Column("decision", Number, ForeignKey("decisions.id")),
    Index("sessions_expires", "expires"),
)
"""A challenge and what became of it. Only the SHA-256 of the cookie is kept: who reads the database gets no session."""

blobs = Table(
    "blobs",
    metadata,
    Column("sha256", LargeBinary(32), primary_key=True),
    Column("data", LargeBinary, nullable=False),
)
"""Evidence, endorsements and policies by content."""

_DECISIONS = text("kind = 'decision'")
_ACCEPTED = text("kind = 'decision' AND outcome = 'affirming'")

audit = Table(
    "audit",
    metadata,
    Column("seq", Number, primary_key=True, autoincrement=False),
    Column("time", BigInteger, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("subject", String(255), nullable=False),
    Column("outcome", String(32), nullable=False),
    Column("record", LargeBinary, nullable=False),
    Column("sha256", LargeBinary(32), nullable=False),
    Column("chip", String(128)),
    Column("measurement", String(96)),
    Column("vm", String(255)),
    Column("level", String(160)),
    CheckConstraint("seq > 0", name="audit_seq_positive"),
    Index("audit_time", "time"),
    Index("audit_kind", "kind", "seq"),
    Index("audit_subject", "subject", "seq"),
    Index("audit_decisions", "outcome", "time", sqlite_where=_DECISIONS, postgresql_where=_DECISIONS),
    # The outcome stands in it, always the same, so that planners without statistics find it better than the one above.
    Index(
        "audit_accepted", "measurement", "outcome", "time", "seq", sqlite_where=_ACCEPTED, postgresql_where=_ACCEPTED
    ),
)
"""Canonical records, numbered from 1 without gaps; the other columns are an index over what ``record`` says."""

for _name in ("chip", "measurement", "vm"):
    # Most records name none of them: those stay out of the index.
    _there = audit.c[_name].is_not(None)
    Index(f"audit_{_name}", audit.c[_name], audit.c.seq, sqlite_where=_there, postgresql_where=_there)

_LEVEL = audit.c.level.is_not(None)
Index("audit_level", audit.c.chip, audit.c.seq, audit.c.level, sqlite_where=_LEVEL, postgresql_where=_LEVEL)

leaves = Table(
    "leaves",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=False),
    Column("hashes", LargeBinary, nullable=False),
)
"""The RFC 6962 tree over the records; record number n is leaf n - 1. ``hashes`` are those of the complete subtrees that
end with a leaf, its own first, 32 bytes each: one row for each record, at the end of the table."""

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("root", LargeBinary(32), nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("note", LargeBinary, nullable=False),
)
"""Signed checkpoints of the tree, cosignatures included as they arrive. ``size`` records were in it."""

decisions = Table(
    "decisions",
    metadata,
    Column("id", Number, ForeignKey("audit.seq"), primary_key=True, autoincrement=False),
    Column("token_id", String(64), nullable=False, unique=True),
    Column("time", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("status", String(32), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("emulated", Boolean, nullable=False),
    Column("tee_pubkey", Text, nullable=False),
    Column("references", Text, nullable=False),
    Column("revoked", BigInteger),
    Column("facts", Text),
    Index("decisions_revoked", "revoked"),
)
"""Decisions that a token or session may still be used with. ``id`` is the audit record's number, ``revoked`` when an
operator ended it early, ``facts`` what was found out about the guest, as JSON."""

references = Table(
    "reference_values",
    metadata,
    Column("id", Number, primary_key=True),
    Column("name", String(64), nullable=False),
    Column("launch_digest", LargeBinary(48), nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("added", BigInteger, nullable=False),
    Column("added_by", String(255), nullable=False),
    Column("retired", BigInteger),
    Column("retired_by", String(255)),
    Column("stage", Text),
    Column("canary_releases", Integer, nullable=False, server_default="0"),
    Index("reference_values_name", "name"),
)
"""``stage`` is its place in an upgrade as JSON, ``canary_releases`` how often a key went out on it before promotion."""

secrets = Table(
    "secrets",
    metadata,
    Column("path", String(200), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("created", BigInteger, nullable=False),
    Column("created_by", String(255), nullable=False),
    Column("size", Integer, nullable=False),
    Column("only_for", Text),
    Column("retired", BigInteger),
    Column("master_key_id", String(32)),
    Column("wrapped_key", LargeBinary),
    Column("ciphertext", LargeBinary),
    Column("pending", Boolean),
    Column("source", String(16)),
)
"""Resources under envelope encryption. Retiring a version erases its wrapped key and ciphertext. A ``pending`` one
waits to replace the version in force, and goes to no guest alone. With a ``source`` the ciphertext says where the value
is kept, not what it is."""

token_keys = Table(
    "token_keys",
    metadata,
    Column("kid", String(64), primary_key=True),
    Column("algorithm", String(16), nullable=False),
    Column("begins", BigInteger, nullable=False, unique=True),
    Column("added_by", String(255), nullable=False),
    Column("master_key_id", String(32), nullable=False),
    Column("wrapped_key", LargeBinary, nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
)
"""Keys that sign tokens, under envelope encryption as resources are; empty where they are files. One that no token
needs any more is deleted."""

luks_headers = Table(
    "luks_headers",
    metadata,
    Column("path", String(200), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("sha256", LargeBinary(32), primary_key=True),
    Column("added", BigInteger, nullable=False),
)
"""Digests of the headers that the disk of a key may have."""

rotations = Table(
    "rotations",
    metadata,
    Column("path", String(200), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("started", BigInteger, nullable=False),
    Column("started_by", String(255), nullable=False),
    Column("vm", String(128)),
)
"""Disk keys that are being replaced, until the guest has removed the old keyslot."""

rotation_offers = Table(
    "rotation_offers",
    metadata,
    Column("path", String(200), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("decision", BigInteger, primary_key=True, autoincrement=False),
)
"""Which guests were given a key that is being replaced, by their decision: only they may report on it."""

conditions = Table(
    "conditions",
    metadata,
    Column("path", String(200), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("document", LargeBinary, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("set_at", BigInteger, nullable=False),
    Column("set_by", String(255), nullable=False),
)
"""What has to hold before a resource is released; the newest version counts. They are the path's, not one value's."""

releases = Table(
    "releases",
    metadata,
    Column("id", Number, ForeignKey("audit.seq"), primary_key=True, autoincrement=False),
    Column("path", String(200), nullable=False),
    Column("time", BigInteger, nullable=False),
    Index("releases_path_time", "path", "time"),
)
"""Releases of resources that have conditions, for counting. ``id`` is the audit record's number."""

approvals = Table(
    "approvals",
    metadata,
    Column("id", Number, ForeignKey("audit.seq"), primary_key=True, autoincrement=False),
    Column("path", String(200), nullable=False),
    Column("purpose", String(16), nullable=False),
    Column("operator", String(255), nullable=False),
    Column("given", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Index("approvals_path_expires", "path", "expires"),
)
"""Approvals and break-glass, each until its end. ``id`` is the audit record's number."""

instances = Table(
    "instances",
    metadata,
    Column("vm", String(128), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("machine", String(128), nullable=False),
    Column("instance", String(64), nullable=False),
    Column("seen", BigInteger, nullable=False),
)
"""Launches of a VM in the order they first got a resource that watches for clones."""

hosts = Table(
    "hosts",
    metadata,
    Column("key_id", String(64), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("added", BigInteger, nullable=False),
    Column("added_by", String(255), nullable=False),
    Column("retired", BigInteger),
)
"""Public keys of hosts whose signed launch records are believed."""

launches = Table(
    "launches",
    metadata,
    Column("key_id", String(64), primary_key=True),
    Column("statement", String(64), primary_key=True),
    Column("record", Number, ForeignKey("audit.seq"), nullable=False),
    Column("host", String(64), nullable=False),
    Column("vm", String(64), nullable=False),
    Column("measurement", String(96)),
    Column("time", BigInteger, nullable=False),
    Index("launches_measurement_time", "measurement", "time"),
    Index("launches_vm", "vm", "record"),
)
"""Statements of hosts on record, by key and SHA-256 of what was signed; ``measurement`` is null for a launch's end."""
