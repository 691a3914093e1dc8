"""Times as the database keeps them: integer microseconds since 1970-01-01 UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_micros(when: datetime) -> int:
    """``when`` must be aware: a naive time is a programming error."""
    if when.tzinfo is None:
        raise TypeError("naive datetime, want an aware one")
    return (when - _EPOCH) // timedelta(microseconds=1)


def from_micros(value: int) -> datetime:
    """The aware UTC time."""
    return _EPOCH + timedelta(microseconds=value)
