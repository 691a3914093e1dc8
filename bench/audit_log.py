"""Appending audit records with durability, and proving one of many.

Appending is compared with what SQLite's own driver does with the same rows, in rounds that take turns.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from attest.audit.record import Actor, Event
from attest.broker.trail import draft
from attest.store import records
from attest.store.engine import Database
from attest.store.group import GroupWrites
from attest.store.schema import audit
from attest.web.worker import collect_rarely
from bench.audit_large import proof_row
from tests.fakes.postgres import PostgresServer, programs

WRITERS, SECONDS, ROUNDS = 16, 1.5, 3
_EVENT = Event(
    datetime(2026, 1, 1, tzinfo=UTC), "release", "default/web-1/root", "released", Actor("guest"),
    {"decision": 17, "token_id": "ab" * 16, "emulated": False, "version": 1, "tee_pubkey": {"x": "a" * 43}},
)  # fmt: skip


def run() -> list[dict[str, Any]]:
    """The rows of this module."""
    with tempfile.TemporaryDirectory(dir=Path(".cache")) as name:
        folder = Path(name)
        ours, held, floors = [], [], []
        collect_rarely()
        for turn in range(ROUNDS):  # in turns, for the disk is everybody's
            floors.append(_bare(folder / f"floor{turn}.db"))
            ours.append(appends(Database(folder / f"log{turn}.db")))
            with _one_processor():
                held.append(appends(Database(folder / f"held{turn}.db")))
        floor = median(floors)
        return [
            _appends_row("SQLite", 8000, ours, floor),
            _appends_row("SQLite, process held to one processor", 8000, held, floor),
            *_postgres_rows(floor),
            proof_row(folder / "large.db", 1_000_000),
        ]


@contextmanager
def _one_processor() -> Iterator[None]:
    """For threads that are started meanwhile: they wake one another across no other."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Appended(NamedTuple):
    """Records a second; the median wait of a writer and processor time a record, both in seconds."""

    rate: float
    wait: float
    spent: float


def _appends_row(where: str, target: int, found: Sequence[Appended], floor: float) -> dict[str, Any]:
    rate, wait, spent = (median(values) for values in zip(*found, strict=True))
    return {
        "name": f"audit records/s, durable, {WRITERS} writers, {where}", "ours": round(rate), "peer": round(floor),
        "ratio": round(rate / floor, 2), "target": f"{target}/s", "met": rate >= target,
        "detail": f"peer: sqlite3 alone, {WRITERS} such rows and their nodes a commit; "
        f"median wait {wait * 1000:.2f} ms; {spent * 1e6:.0f} µs of processor time a record; "
        f"best round {max(item.rate for item in found):.0f}/s, "
        f"load {os.getloadavg()[0]:.1f}",
    }  # fmt: skip


def _postgres_rows(floor: float) -> list[dict[str, Any]]:
    """The same on PostgreSQL; nothing where it is not installed."""
    if programs() is None:
        return []
    server = PostgresServer()
    try:
        found = [appends(Database(server.new_database())) for _ in range(ROUNDS)]
    finally:
        server.remove()
    return [_appends_row("PostgreSQL (files in memory)", 4000, found, floor)]


def appends(database: Database) -> Appended:
    """:data:`WRITERS` threads that write as those of a worker of the service do."""
    database.create()
    log, spent = GroupWrites(database), time.process_time()
    stop = time.perf_counter() + SECONDS

    def append() -> None:
        written = draft(replace(_EVENT, body=dict(_EVENT.body)))
        log.run(partial(records.append, draft=written))

    def writer(_: int) -> list[float]:
        waits = []
        while (start := time.perf_counter()) < stop:
            append()
            waits.append(time.perf_counter() - start)
        return waits

    with ThreadPoolExecutor(WRITERS) as pool:
        waits = [wait for waits in pool.map(writer, range(WRITERS)) for wait in waits]
    database.close()
    return Appended(len(waits) / SECONDS, median(waits), (time.process_time() - spent) / len(waits))


def _bare(path: Path) -> float:
    """The floor: the same rows, made before, through sqlite3 alone; no hashing, one thread."""
    Database(path).create()
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")
    nothing = (None,) * (len(audit.columns) - 7)  # what a record can be found by, and this one cannot
    record, number, stop = _EVENT.record(1, bytes(32)), 0, time.perf_counter() + SECONDS
    while time.perf_counter() < stop:
        places = range(number, number + WRITERS)
        rows = [(at + 1, 1, "release", _EVENT.subject, "released", record, bytes(32), *nothing) for at in places]
        nodes = [(at, bytes(32 * (~at & at + 1).bit_length())) for at in places]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(f"INSERT INTO audit VALUES ({', '.join('?' * len(rows[0]))})", rows)
        connection.executemany("INSERT INTO leaves VALUES (?, ?)", nodes)
        connection.execute("COMMIT")
        number += WRITERS
    connection.close()
    return number / SECONDS
