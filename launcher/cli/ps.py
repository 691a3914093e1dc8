"""``cvm ps``: every VM and its true state. Must start fast: imports little."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

EPILOG = "example: cvm ps --json\nexit status: 0 listed, 8 the state folder cannot be read"
_COLUMNS = ("NAME", "STATE", "PLATFORM", "VCPUS", "MEMORY", "SINCE", "REASON")
_WIDE = ("PID", "WAITED", "CPU", "MEM", "IO", "DISK P99")
"""WAITED: percent of its runnable time that its threads waited for a processor; then its cgroup's pressure, and how
long 99 in 100 requests of its slowest disk took at most since the first look.
"""


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("--json", action="store_true", help="print JSON (cvm.ps/1)")
    parser.add_argument(
        "-w", "--wide", action="store_true", help="with signs of noisy neighbours (waiting, pressure, disks)"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="names of VMs that are up, nothing else")


class _Plain:
    """What argparse would have returned."""

    __slots__ = ("json", "quiet", "wide")

    def __init__(self, words: list[str]) -> None:
        self.json = "--json" in words
        self.quiet = "-q" in words or "--quiet" in words
        self.wide = "-w" in words or "--wide" in words


def quick(words: list[str]) -> _Plain | None:
    """The options of a plain call; ``None`` leaves everything else (and every mistake) to argparse."""
    return _Plain(words) if set(words) <= {"--json", "-q", "--quiet", "-w", "--wide"} else None


def run(args: Namespace | _Plain) -> int:
    """List; 0."""
    from launcher.core.states import LIVE, ORPHANED
    from launcher.io.statedir import state_root
    from launcher.service.listing import list_vms

    rows = list_vms(state_root())
    if args.wide:
        from launcher.io.pressure import pressure
        from launcher.service.disk_topping import slowest

        for row in rows:
            row["pressure"] = None if row["pid"] is None else pressure(row["pid"])
            row["disk_p99_ns"] = slowest(row["name"]) if row["state"] in LIVE else None
    if args.json:
        import json

        sys.stdout.write(json.dumps({"schema": "cvm.ps/1", "vms": rows}, indent=2) + "\n")
    elif args.quiet:
        sys.stdout.write("".join(f"{row['name']}\n" for row in rows if row["state"] in (*LIVE, ORPHANED)))
    else:
        columns = (*_COLUMNS[:-1], *_WIDE, _COLUMNS[-1]) if args.wide else _COLUMNS
        cells = [_wide_cells(row) if args.wide else _cells(row) for row in rows]
        sys.stdout.write(_table(columns, cells))
    return 0


def _wide_cells(row: dict[str, Any]) -> tuple[str, ...]:
    *first, reason = _cells(row)
    from launcher.core.latency import shown

    numbers = row["pressure"] or {}
    signs = ("-" if numbers.get(name) is None else f"{numbers[name]:g} %" for name in ("waited", "cpu", "memory", "io"))
    return (*first, "-" if row["pid"] is None else str(row["pid"]), *signs, shown(row["disk_p99_ns"]), reason)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    from launcher.core.text import safe_text

    memory = f"{row['memory'] >> 20} MiB" if isinstance(row["memory"], int) else "?"
    state = f"{row['state']} (paused)" if row["paused"] else row["state"]
    shown = (row["name"], state, row["platform"], row["vcpus"], memory, row["since"], row["reason"])
    return tuple(safe_text("" if cell is None else str(cell), 120) for cell in shown)


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    everything = [columns, *rows]
    widths = [max(len(row[column]) for row in everything) for column in range(len(columns))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n"
        for row in everything
    )
