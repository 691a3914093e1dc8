"""``cvm top``: what every VM that is up uses, and signs of noisy neighbours."""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser, Namespace

from launcher.core.text import safe_text
from launcher.service.topping import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DESCRIPTION = """What every VM that is up uses: processor (percent of one), steal (percent of its runnable time that its
threads waited for a processor), memory, bytes its QEMU reads and writes, pressure (PSI) of its cgroup, and its meaning.
On a terminal the table is renewed until interrupted; otherwise, and with --json, it is printed once."""
EPILOG = """example: cvm top
         cvm top --json --interval 5
exit status: 0"""
_COLUMNS = ("NAME", "VCPUS", "CPU", "STEAL", "MEMORY", "RESIDENT", "READ/s", "WRITE/s", "PSI CPU", "MEM", "IO", "SIGNS")


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("--interval", metavar="S", type=float, default=1.0, help="seconds between looks (0.1 to 60)")
    parser.add_argument("--json", action="store_true", help="print JSON (cvm.top/1), once")


def run(args: Namespace) -> int:
    """Print once, or until interrupted; 0."""
    interval = min(max(args.interval, 0.1), 60.0)
    watch = Watch()
    watch.look()
    if args.json or not sys.stdout.isatty():
        time.sleep(interval)
        rows = watch.look()
        text = json.dumps({"schema": "cvm.top/1", "seconds": interval, "vms": rows}, indent=2) + "\n"
        sys.stdout.write(text if args.json else table(rows))
        return 0
    try:
        while True:
            time.sleep(interval)
            sys.stdout.write(f"\x1b[H\x1b[2J{table(watch.look())}")
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 0


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = [_COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_COLUMNS))]
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
