"""``[[throttle]]`` and ``[disk.throttle]``: limits on a disk's operations and bytes per second."""

from __future__ import annotations

from launcher.config.sizes import parse_size
from launcher.core.storage import LIMIT_NAMES, Limit, Throttle
from launcher.core.vm import SharedThrottle
from policy.late import fullmatch
from policy.table import Table

MAX_RATE = 10**15
"""THROTTLE_VALUE_MAX of QEMU's ``util/throttle.c``."""
MAX_BURST_SECONDS = 86_400
MAX_GROUPS = 64
GROUP_NAME = r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?"


def shared_throttles(tables: tuple[Table, ...]) -> tuple[SharedThrottle, ...]:
    """``[[throttle]]``"""
    found: list[SharedThrottle] = []
    if len(tables) > MAX_GROUPS:
        tables[MAX_GROUPS].problem("name", f"{len(tables)} groups, want at most {MAX_GROUPS}")
    for table in tables:
        name = table.value("name", str) or "x"
        if not fullmatch(GROUP_NAME, name):
            table.problem("name", f"got {name[:80]!r}, want at most 32 of a-z 0-9 and inner '-'")
        if name in [item.name for item in found]:
            table.problem("name", f"{name!r} is there already, want it once")
        found.append(SharedThrottle(name, throttle(table)))
    return tuple(found)


def throttle(table: Table) -> Throttle:
    """The limits of one table: ``iops_total = 500``, ``bps_read = "10MiB"``, each with ``_burst`` and
    ``_burst_seconds``.
    """
    found = Throttle(tuple(_limit(table, name.replace("-", "_")) for name in LIMIT_NAMES), _iops_size(table))
    for name, text in found.problems():
        table.problem(name.replace("-", "_"), text)
    if not any(limit.rate for limit in found.limits):
        table.problem("iops_total", "no limit is set: want iops_ or bps_ with total, read or write")
    table.finish()
    return found


def _limit(table: Table, key: str) -> Limit:
    seconds = table.value(f"{key}_burst_seconds", int, 1) or 0
    if not 1 <= seconds <= MAX_BURST_SECONDS:
        table.problem(f"{key}_burst_seconds", f"got {seconds}, want 1 to {MAX_BURST_SECONDS}")
        seconds = 1
    return Limit(_rate(table, key), _rate(table, f"{key}_burst"), seconds)


def _rate(table: Table, key: str) -> int:
    """0 when absent: no limit. To write 0 is a mistake."""
    if not table.has(key):
        return 0
    if key.startswith("iops"):
        value = table.value(key, int, want="operations per second") or 0
    else:
        text = table.value(key, str, want='bytes per second such as "10MiB"') or ""
        value = parse_size(text) or 0
    if not 1 <= value <= MAX_RATE:
        what = "operations per second" if key.startswith("iops") else 'bytes per second such as "10MiB"'
        table.problem(key, f"want {what}, at least 1")
        return 0
    return value


def _iops_size(table: Table) -> int:
    if not table.has("iops_size"):
        return 0
    size = parse_size(table.value("iops_size", str, want='a size such as "16KiB"') or "") or 0
    if not 512 <= size <= 1 << 30:
        table.problem("iops_size", 'want a size such as "16KiB", from 512 bytes up')
        return 0
    return size
