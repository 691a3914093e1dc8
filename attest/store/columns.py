"""Values as they come back from the database: SQLite keeps whatever type was written, so a forger chooses the type."""

from __future__ import annotations


def as_bytes(value: object) -> bytes:
    """A binary column's value. One of another type was not written by us: its text, which no digest will match."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
