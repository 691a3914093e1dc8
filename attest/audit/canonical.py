"""Canonical JSON (RFC 8785) of audit bodies.

RFC 8785 has no integers beyond 2^53 and no bytes. Values that do not fit are written as text before they reach it:
byte strings as lower-case hex, larger integers as ``0x…``, aware times as RFC 3339 in UTC. Secrets have no encoding
here: a ``SecretBytes`` anywhere in a body is a ``TypeError``, so no caller can write one by mistake.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import orjson
import rfc8785

from policy.strictjson import MAX_DEPTH

_MAX_SAFE = 2**53 - 1
_AS_IT_IS = frozenset((str, bool, type(None)))
_SORTED = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER

Json = dict[str, "Json"] | list["Json"] | str | int | bool | None


def canonical(value: object) -> bytes:
    """The canonical UTF-8 bytes of ``value``. Raises TypeError for anything that is not plain data."""
    return written(plain(value))


def written(data: Json) -> bytes:
    """The canonical bytes of plain data without fractions. Raises TypeError or ValueError for what has none."""
    # Without fractions, and where every character is ASCII, so that keys sort alike by code point and by UTF-16 unit,
    # orjson writes the same bytes, a hundred times as fast.
    text = orjson.dumps(data, option=_SORTED)
    return text if text.isascii() else rfc8785.dumps(data)


def plain(value: object) -> Json:
    """``value`` with every byte string, time and large integer written as text."""
    kind = type(value)
    if kind in _AS_IT_IS:
        return value  # type: ignore[return-value]  # one of the three
    # Most members are text: a call for each would take longer than all the rest.
    if kind is dict:
        return {
            key if type(key) is str else str(key): member if type(member) in _AS_IT_IS else plain(member)
            for key, member in value.items()  # type: ignore[attr-defined]  # it is a dict
        }
    if kind is list or kind is tuple:
        return [item if type(item) in _AS_IT_IS else plain(item) for item in value]  # type: ignore[attr-defined]  # so is it
    return _rarer(value)


def _rarer(value: object) -> Json:
    """What is none of the types that most values have, or a subclass of one."""
    if isinstance(value, int):
        return int(value) if -_MAX_SAFE <= value <= _MAX_SAFE else hex(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, str):
        return value
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, Mapping):
        return {str(key): plain(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(member) for member in value]
    raise TypeError(f"an audit record holds plain data, got {type(value).__name__}")


def is_plain(value: object, depth: int = MAX_DEPTH) -> bool:
    """Whether parsed JSON holds no fraction and is nested at most ``depth`` deep."""
    if not isinstance(value, (dict, list)):
        return not isinstance(value, float)
    for item in value.values() if isinstance(value, dict) else value:
        # Most members are text: only the others are looked into.
        if type(item) not in _AS_IT_IS and not is_plain(item, depth - 1):
            return False
    return depth > 0


def rfc3339(when: datetime) -> str:
    """An aware time in UTC with microseconds: ``2026-01-02T03:04:05.000000Z``."""
    if when.tzinfo is None:
        raise TypeError("naive datetime, want an aware one")
    return when.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
