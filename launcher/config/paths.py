"""Paths in VM files: as written, checked for what no file system takes."""

from __future__ import annotations

from policy.table import Table

MAX_PATH = 4096


def path(table: Table, key: str, default: str | None) -> str | None:
    """A path of 1 to 4096 bytes."""
    found = table.value(key, str, default, want="a path")
    if found is not None and (not found or "\0" in found or len(found.encode("utf-8", "surrogatepass")) > MAX_PATH):
        table.problem(key, f"got {found[:60]!r}, want a path of 1 to {MAX_PATH} bytes")
        return default
    return found


def optional_path(table: Table, key: str) -> str | None:
    """A path, or ``None`` where the key is absent."""
    return path(table, key, None) if table.has(key) else None
