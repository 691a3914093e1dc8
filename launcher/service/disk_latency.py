"""What a launcher tells of its disks' requests: counters and latency histograms, kept from the first question on.

The device's own accounting, so a request's time includes waiting for limits. Source: QAPI
``block-latency-histogram-set``, ``query-blockstats``.
"""

from __future__ import annotations

from launcher.core.latency import BOUNDARIES, latencies
from launcher.io.qmp import Qmp
from launcher.service.planning import Prepared

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def disk_latency(prepared: Prepared, qmp: Qmp, about: dict[str, Any]) -> dict[str, object]:
    """The command ``disks``: one row for each. Asked for the first time it begins to count latency."""
    del about
    devices = _devices(qmp)
    fresh = [item["qdev"] for item in devices.values() if "rd_latency_histogram" not in item["stats"]]
    for device in fresh:
        qmp.execute("block-latency-histogram-set", id=device, boundaries=list(BOUNDARIES))
    if fresh:
        devices = _devices(qmp)
    rows = [
        _row(disk.name, devices[f"disk{number}"]["stats"])
        for number, disk in enumerate(prepared.plan.spec.disks)
        if f"disk{number}" in devices
    ]
    return {"said": f"latency of {len(rows)} disk(s)", "boundaries_ns": list(BOUNDARIES), "disks": rows}


def _devices(qmp: Qmp) -> dict[str, dict[str, Any]]:
    """By the id the launcher gave the device; a virtio disk's statistics are its inner device's."""
    found = {}
    for item in qmp.execute("query-blockstats"):
        parts = str(item.get("qdev", "")).split("/")
        found.update({part: item for part in parts if part.startswith("disk")})
    return found


def _row(name: str, stats: dict[str, Any]) -> dict[str, object]:
    row: dict[str, object] = {"disk": name, "read_bytes": stats["rd_bytes"], "written_bytes": stats["wr_bytes"]}
    for kind, latency in latencies(stats).items():
        row[kind] = {"requests": latency.requests, "nanoseconds": latency.nanoseconds, "bins": list(latency.bins)}
    return row
