"""Whole numbers of a VM file."""

from __future__ import annotations

from policy.table import Table


def optional_number(table: Table, key: str, low: int, high: int) -> int | None:
    """A number from ``low`` to ``high``, both allowed; ``None`` where the key is absent."""
    if not table.has(key):
        return None
    value = table.value(key, int)
    if value is not None and not low <= value <= high:
        table.problem(key, f"got {value}, want {low} to {high}")
    return value
