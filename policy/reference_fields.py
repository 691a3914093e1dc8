"""Members of a reference-value file, each read strictly or refused with :class:`ReferenceMalformed`."""

from __future__ import annotations

import re
from typing import Any

from policy.errors import MalformedInput


class ReferenceMalformed(MalformedInput):
    """A reference-value file that does not parse."""

    code = "reference.malformed"


def json_object(value: object, what: str) -> dict[str, Any]:
    """``value``, which must be a JSON object."""
    if not isinstance(value, dict):
        raise ReferenceMalformed(f"{what}: want a JSON object")
    return value


def only(table: dict[str, Any], what: str, known: tuple[str, ...]) -> None:
    """Refuse members nobody knows: a misspelt one would otherwise count as absent."""
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise ReferenceMalformed(f"{what}: unknown member {unknown[0][:60]!r}")


def hex_bytes(table: dict[str, Any], key: str, length: int) -> bytes:
    """Member ``key``: ``length`` bytes in lower-case hexadecimal."""
    value = table.get(key)
    if not isinstance(value, str) or not re.fullmatch(f"[0-9a-f]{{{2 * length}}}", value):
        raise ReferenceMalformed(f"reference: {key}: got {str(value)[:120]!r}, want {2 * length} lower-case hex digits")
    return bytes.fromhex(value)


def optional_hex(table: dict[str, Any], key: str) -> bytes | None:
    """Member ``key``: 32 bytes in lower-case hexadecimal, or null."""
    return None if table.get(key) is None else hex_bytes(table, key, 32)


def hex_or_none(value: bytes | None) -> str | None:
    """What :func:`optional_hex` reads."""
    return None if value is None else value.hex()


def integer(table: dict[str, Any], key: str, below: int, *, least: int = 0) -> int:
    """Member ``key``: an integer, ``least`` or more and less than ``below``."""
    value = table.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < below:
        raise ReferenceMalformed(f"reference: {key}: got {str(value)[:40]!r}, want an integer {least}..{below - 1}")
    return value


def word(table: dict[str, Any], key: str) -> str:
    """Member ``key``: printable text of at most 4096 characters."""
    value = table.get(key)
    if not isinstance(value, str) or len(value) > 4096 or not value.isprintable():
        raise ReferenceMalformed(f"reference: {key}: want a printable string of at most 4096 characters")
    return value
