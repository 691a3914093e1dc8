"""Contexts for keyed operations: a label and values, each preceded by its length.

Without lengths, ``("ab", "c")`` and ``("a", "bc")`` would be one context and a value sealed for one resource could be
passed off as another's. The label carries a version, so a changed format is a changed context.
"""

from __future__ import annotations


def context(label: str, *values: str | int | bytes) -> bytes:
    """``u32be(len) ‖ bytes`` for the label and every value; integers as eight bytes, big-endian."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in map(_encoded, (label, *values)))


def _encoded(value: str | int | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, int):
        return value.to_bytes(8, "big")
    return value.encode()
