"""Use case *top --disks*: requests of every disk of every VM that is up, and how long they took, between two looks."""

from __future__ import annotations

from launcher.core.latency import OPERATIONS, Latency, quantile, since
from launcher.core.states import LIVE
from launcher.io.control import ask
from launcher.io.statedir import existing, state_root
from launcher.service.listing import list_vms
from policy.errors import CvmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_GLANCE = 1.0
"""Seconds for which a listing waits for one VM."""
SHARES = (("p50_ns", 0.5), ("p99_ns", 0.99))


def slowest(vm: str) -> int | None:
    """Nanoseconds within which 99 in 100 requests ended, of the slowest kind on the slowest disk, since somebody first
    looked; -1 for more than the last boundary, ``None`` without requests, or without an answer in a second.
    """
    try:
        answer = ask(existing(state_root(), vm).path, vm, "disks", seconds=_GLANCE)
    except CvmError:
        return None
    found = [quantile(disk[kind]["bins"], 0.99) for disk in answer.get("disks", []) for kind, _ in OPERATIONS]
    return max((item for item in found if item is not None), key=lambda item: (item < 0, item), default=None)


class DiskWatch:
    """Looks again and again; each look tells what changed since the one before."""

    def __init__(self) -> None:
        self._before: dict[tuple[str, str, str], Latency] = {}

    def look(self, seconds: float) -> list[dict[str, Any]]:
        """One row per disk; ``seconds`` since the look before. A VM whose launcher does not answer has one with the
        reason.
        """
        seen: dict[tuple[str, str, str], Latency] = {}
        rows: list[dict[str, Any]] = []
        for vm in list_vms(state_root()):
            if vm["state"] not in LIVE:
                continue
            name = str(vm["name"])
            try:
                answer = ask(existing(state_root(), name).path, name, "disks")
            except CvmError as exc:
                rows.append({"name": name, "disk": None, "problem": exc.message})
                continue
            rows += [self._row(name, disk, seen, seconds) for disk in answer.get("disks", [])]
        self._before = seen
        return rows

    def _row(
        self, vm: str, disk: dict[str, Any], seen: dict[tuple[str, str, str], Latency], seconds: float
    ) -> dict[str, Any]:
        row: dict[str, Any] = {"name": vm, "disk": disk["disk"], "problem": None}
        for kind, _ in OPERATIONS:
            key = (vm, str(disk["disk"]), kind)
            seen[key] = Latency(disk[kind]["requests"], disk[kind]["nanoseconds"], tuple(disk[kind]["bins"]))
            moved = since(self._before.get(key), seen[key])
            row[kind] = {
                "per_second": round(moved.requests / seconds, 1) if key in self._before else None,
                "mean_ns": moved.nanoseconds // moved.requests if moved.requests else None,
                **{name: quantile(moved.bins, share) for name, share in SHARES},
                "bins": list(moved.bins),
            }
        return row
