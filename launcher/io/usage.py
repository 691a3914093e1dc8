"""What a process uses: processor time, waiting, memory and bytes moved, from ``/proc``.

``root`` stands for ``/`` in tests.
Sources: proc(5) stat, statm, io; Linux ``Documentation/scheduler/sched-stats.rst``.
"""

from __future__ import annotations

import os
from pathlib import Path

from policy.named import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Usage(NamedTuple):
    """Since its start: seconds on processors and seconds its threads waited for one; bytes read and written. Now:
    bytes of memory, threads. ``None``: may not be read.
    """

    cpu: float
    waited: float | None
    memory: int
    threads: int
    read: int | None
    written: int | None


class Rates(NamedTuple):
    """Between two looks: percent of one processor, percent of runnable time spent waiting, bytes a second."""

    cpu: float
    steal: float | None
    read: float | None
    written: float | None


def usage(pid: int, root: Path = Path("/")) -> Usage | None:
    """One process, ``None`` once it has ended."""
    folder = root / f"proc/{pid}"
    try:
        fields = (folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        memory = int((folder / "statm").read_text("ascii").split()[1]) * _PAGE
        cpu = (int(fields[11]) + int(fields[12])) / _TICKS
        threads = int(fields[17])
    except (OSError, ValueError, IndexError):
        return None
    moved = _moved(folder / "io")
    return Usage(cpu, _waited(folder), memory, threads, moved.get("rchar"), moved.get("wchar"))


def rates(before: Usage, after: Usage, seconds: float) -> Rates:
    """What changed in so many seconds (more than 0)."""
    steal = None
    if before.waited is not None and after.waited is not None:
        waited, ran = max(0.0, after.waited - before.waited), max(0.0, after.cpu - before.cpu)
        steal = 100 * waited / (waited + ran) if waited + ran else 0.0
    return Rates(
        100 * max(0.0, after.cpu - before.cpu) / seconds,
        steal,
        _rate(before.read, after.read, seconds),
        _rate(before.written, after.written, seconds),
    )


def _rate(before: int | None, after: int | None, seconds: float) -> float | None:
    return None if before is None or after is None else max(0, after - before) / seconds


def _waited(folder: Path) -> float | None:
    total = 0
    try:
        for thread in (folder / "task").iterdir():
            fields = (thread / "schedstat").read_text("ascii").split()
            total += int(fields[1])
    except (OSError, ValueError, IndexError):
        return None
    return total / 1e9


def _moved(path: Path) -> dict[str, int]:
    try:
        rows = [line.split(": ") for line in path.read_text("ascii").splitlines()]
    except OSError:
        return {}
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}
