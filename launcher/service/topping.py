"""Use case *top*: what every VM that is up uses now, and signs that others disturb it."""

from __future__ import annotations

import time

from launcher.core.states import LIVE, ORPHANED
from launcher.io.pressure import pressure
from launcher.io.statedir import state_root
from launcher.io.usage import Usage, rates, usage
from launcher.service.listing import list_vms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STEAL, PRESSURE = 10.0, 10.0
"""Percent from which waiting, or stalling by PSI, is called a sign of a noisy neighbour."""


class Watch:
    """Looks again and again; each look tells what changed since the one before."""

    def __init__(self) -> None:
        self._before: dict[int, Usage] = {}
        self._time = 0.0

    def look(self) -> list[dict[str, Any]]:
        """One row per VM that is up; rates are ``None`` for a VM not seen before."""
        now = time.monotonic()
        seen: dict[int, Usage] = {}
        rows = []
        for vm in list_vms(state_root()):
            pid = vm["pid"]
            found = usage(pid) if pid is not None and vm["state"] in (*LIVE, ORPHANED) else None
            if found is not None:
                seen[pid] = found
                rows.append(self._row(vm, found, now - self._time))
        self._before, self._time = seen, now
        return rows

    def _row(self, vm: dict[str, Any], found: Usage, seconds: float) -> dict[str, Any]:
        before = self._before.get(vm["pid"])
        moved = None if before is None or seconds <= 0 else rates(before, found, seconds)
        stalls = pressure(vm["pid"])
        steal = None if moved is None else moved.steal
        return {
            "name": vm["name"], "state": vm["state"], "paused": vm["paused"], "pid": vm["pid"], "vcpus": vm["vcpus"],
            "cpu_percent": None if moved is None else round(moved.cpu, 1),
            "steal_percent": None if steal is None else round(steal, 1),
            "memory": vm["memory"], "resident": found.memory, "threads": found.threads,
            "read_per_second": None if moved is None or moved.read is None else round(moved.read),
            "written_per_second": None if moved is None or moved.written is None else round(moved.written),
            "pressure": {name: stalls[name] for name in ("cpu", "memory", "io")},
            "signs": signs(steal, stalls),
        }  # fmt: skip


def signs(steal: float | None, stalls: dict[str, float | None]) -> list[str]:
    """What disturbs it, in words."""
    found = []
    if steal is not None and steal >= STEAL:
        found.append("waits for processors")
    words = {"cpu": "stalls on processors", "memory": "stalls on memory", "io": "stalls on I/O"}
    return found + [text for name, text in words.items() if (stalls.get(name) or 0.0) >= PRESSURE]
