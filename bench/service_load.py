"""The service under load: guests on the same processors, fresh nonces and keys, every record durable.

Capacity is what guests in a loop get; then guests arrive at half of that, and at twice, whether or not the service
keeps up. Under overload only whole exchanges count, and what is turned away has to be told so at once.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.queues import Queue
from pathlib import Path
from statistics import quantiles
from typing import Any

from bench._service_load import Processes, exchange, furnish, guest, start
from tests.fakes.postgres import PostgresServer, programs
from tests.fakes.served import Served

PROCESSES, THREADS, SECONDS = 2, 4, 6.0
CROWD = 64
"""Threads of each process under overload: more than the queue of a replica holds."""
_fork = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Load:
    """What guests met: whole exchanges a second, their latencies, and those of refusals, in seconds."""

    rate: float
    done: tuple[float, ...]
    refused: tuple[float, ...]

    def p99(self) -> float:
        """Of whole exchanges, in milliseconds."""
        return quantiles(self.done, n=100)[98] * 1000 if len(self.done) > 1 else float("inf")


def run() -> list[dict[str, Any]]:
    """The rows of this module."""
    with tempfile.TemporaryDirectory(dir=Path(".cache")) as name:
        return [*_rows(Path(name) / "sqlite", "SQLite"), *_postgres(Path(name) / "postgres")]


def _postgres(folder: Path) -> list[dict[str, Any]]:
    if programs() is None:
        return []
    server = PostgresServer()
    try:
        return _rows(folder, "PostgreSQL", server)
    finally:
        server.remove()


def _rows(folder: Path, kind: str, server: PostgresServer | None = None) -> list[dict[str, Any]]:
    served = furnish(folder, *(() if server is None else ("--database", server.new_database())))
    start(served)
    try:
        drive(served, THREADS, 0, 2.0)
        before, database = Processes(served).cpu(), _postgres_cpu(server)
        full = drive(served, THREADS, 0)
        cost = (Processes(served).cpu() - before, _postgres_cpu(server) - database)
        half = drive(served, THREADS, full.rate / 2)
        before = Processes(served).cpu()
        flood = drive(served, CROWD, full.rate * 2)
        spent = (Processes(served).cpu() - before) / max(1, len(flood.done)) * 1000
    finally:
        served.stop()
    slowest = max(flood.refused, default=0) * 1000
    where, count = f"load {os.getloadavg()[0]:.1f}", max(1, len(full.done))
    own, theirs = (seconds / count * 1000 for seconds in cost)
    return [
        {
            "name": f"exchanges/s, guests on the same processors, {kind}", "ours": round(full.rate, 1), "peer": "-",
            "ratio": "-", "target": "reported", "met": True,
            "detail": f"p99 {full.p99():.0f} ms; CPU ms each: service {own:.2f}, database {theirs:.2f}; {where}",
        },
        {
            "name": f"p99 of an exchange at half load, ms, {kind}", "ours": round(half.p99()), "peer": 250,
            "ratio": round(half.p99() / 250, 2), "target": "under 250 ms", "met": half.p99() < 250,
            "detail": f"{half.rate:.1f} exchanges/s; {where}",
        },
        {
            "name": f"whole exchanges/s at twice the load, {kind}", "ours": round(flood.rate, 1),
            "peer": round(full.rate, 1), "ratio": round(flood.rate / full.rate, 2), "target": "90 % of the peak",
            "met": flood.rate >= 0.9 * full.rate,
            "detail": f"{len(flood.refused)} told 503, slowest after {slowest:.0f} ms; "
            f"service CPU ms each {spent:.2f} against {own:.2f}; {where}",
        },
    ]  # fmt: skip


def drive(served: Served, threads: int, rate: float, seconds: float = SECONDS) -> Load:
    """Guests of two processes: as fast as they can (``rate`` 0), or ``rate`` a second arriving on their own clock."""
    found: Queue[tuple[list[float], list[float]]] = _fork.Queue()
    crowd = [_fork.Process(target=_guests, args=(served, threads, rate / PROCESSES, seconds, found)) for _ in "ab"]
    for process in crowd:
        process.start()
    parts = [found.get() for _ in crowd]
    for process in crowd:
        process.join()
    done = tuple(one for part, _ in parts for one in part)
    return Load(len(done) / seconds, done, tuple(one for _, part in parts for one in part))


def _guests(
    served: Served, threads: int, rate: float, seconds: float, found: Queue[tuple[list[float], list[float]]]
) -> None:
    done: list[float] = []
    refused: list[float] = []
    stop = time.perf_counter() + seconds
    arrivals = _Arrivals(rate)

    def one(_: int) -> None:
        client = guest(served)
        while (due := arrivals.next()) < stop:
            time.sleep(max(0.0, due - time.perf_counter()))
            begun = time.perf_counter()
            whole = exchange(client)
            if time.perf_counter() < stop:
                (done if whole else refused).append(time.perf_counter() - begun)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, range(threads)))
    found.put((done, refused))


class _Arrivals:
    """Moments at which guests arrive, each taken by one thread; without a rate it is always now."""

    def __init__(self, rate: float) -> None:
        self._step = 1 / rate if rate else 0.0
        self._due = time.perf_counter()
        self._lock = threading.Lock()

    def next(self) -> float:
        """When the next one comes."""
        with self._lock:
            self._due = self._due + self._step if self._step else time.perf_counter()
            return self._due


def _postgres_cpu(server: PostgresServer | None) -> float:
    """Seconds on a processor of every process of the database's user group, those that ended included."""
    if server is None or server.pid is None:
        return 0.0
    ticks = 0
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split() if entry.name.isdigit() else []
        except OSError:
            continue
        if fields and (int(entry.name) == server.pid or int(fields[1]) == server.pid):
            ticks += sum(int(fields[index]) for index in (11, 12, 13, 14))
    return ticks / os.sysconf("SC_CLK_TCK")
