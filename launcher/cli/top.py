"""``cvm top``: what every VM that is up uses, and signs of noisy neighbours."""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser, Namespace

from launcher.core.text import safe_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Look = Callable[[], list[dict[str, Any]]]
    Show = Callable[[list[dict[str, Any]]], str]

DESCRIPTION = """What every VM that is up uses: processor (percent of one), steal (percent of its runnable time that its
threads waited for a processor), memory, bytes its QEMU reads and writes, pressure (PSI) of its cgroup, and its meaning.
With --disks instead: requests of every disk, and within which time half and 99 in 100 of them ended, waiting for limits
included; counted from the first look on. On a terminal the table is renewed until interrupted; otherwise, and with
--json, it is printed once."""
EPILOG = """example: cvm top
         cvm top --json --interval 5
         cvm top --disks
exit status: 0"""
_COLUMNS = ("NAME", "VCPUS", "CPU", "STEAL", "MEMORY", "RESIDENT", "READ/s", "WRITE/s", "PSI CPU", "MEM", "IO", "SIGNS")
_DISK_COLUMNS = ("NAME", "DISK", "READ/s", "P50", "P99", "WRITE/s", "P50", "P99", "FLUSH/s", "P50", "P99")


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("--interval", metavar="S", type=float, default=1.0, help="seconds between looks (0.1 to 60)")
    parser.add_argument("--disks", action="store_true", help="disks instead of VMs: requests and their latency")
    parser.add_argument("--json", action="store_true", help="print JSON (cvm.top/1), once")


def run(args: Namespace) -> int:
    """Print once, or until interrupted; 0."""
    interval = min(max(args.interval, 0.1), 60.0)
    look, shown, key = _disks(interval) if args.disks else _vms()
    look()
    if args.json or not sys.stdout.isatty():
        time.sleep(interval)
        rows = look()
        text = json.dumps({"schema": "cvm.top/1", "seconds": interval, key: rows}, indent=2) + "\n"
        sys.stdout.write(text if args.json else shown(rows))
        return 0
    try:
        while True:
            time.sleep(interval)
            sys.stdout.write(f"\x1b[H\x1b[2J{shown(look())}")
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 0


def _vms() -> tuple[Look, Show, str]:

    from launcher.service.topping import Watch

    return Watch().look, table, "vms"


def _disks(interval: float) -> tuple[Look, Show, str]:
    from launcher.service.disk_topping import DiskWatch

    watch = DiskWatch()
    return lambda: watch.look(interval), disk_table, "disks"


def disk_table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    return _aligned([_DISK_COLUMNS, *(_disk_cells(row) for row in rows)])


def _disk_cells(row: dict[str, Any]) -> tuple[str, ...]:
    from launcher.core.latency import OPERATIONS, shown

    name = safe_text(row["name"], 63)
    if row["problem"] is not None:
        return (name, safe_text(row["problem"], 200), *("-" for _ in _DISK_COLUMNS[2:]))
    cells = [name, safe_text(str(row["disk"]), 63)]
    for kind, _ in OPERATIONS:
        found = row[kind]
        cells.append("-" if found["per_second"] is None else f"{found['per_second']:g}")
        cells += [shown(found["p50_ns"]), shown(found["p99_ns"])]
    return tuple(cells)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    return _aligned([_COLUMNS, *(_cells(row) for row in rows)])


def _aligned(lines: list[tuple[str, ...]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines
    )


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    words = ["paused"] if row["paused"] else []
    return (
        safe_text(row["name"], 63), str(row["vcpus"]), _percent(row["cpu_percent"]), _percent(row["steal_percent"]),
        _size(row["memory"]), _size(row["resident"]), _size(row["read_per_second"]), _size(row["written_per_second"]),
        *(_percent(row["pressure"][name]) for name in ("cpu", "memory", "io")),
        ", ".join(words + row["signs"]) or "-",
    )  # fmt: skip


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} %"


def _size(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value / (1 << 20):.1f} MiB" if value >= 1 << 20 else f"{value / (1 << 10):.1f} KiB"
