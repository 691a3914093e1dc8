"""Appending audit records with durability, and proving one of many: against one flush per record on the same disk."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from attest.audit.merkle import Frontier, leaf_hash, verify_inclusion
from attest.audit.record import Actor, Event
from attest.store import tree
from attest.store.engine import Database
from attest.store.group import GroupCommit
from attest.store.records import Draft
from tests.fakes.postgres import PostgresServer, programs

WRITERS, SECONDS, LARGE = 16, 3.0, int(os.environ.get("CVM_BENCH_RECORDS", "1000000"))
_EVENT = Event(
    datetime(2026, 1, 1, tzinfo=UTC), "release", "default/web-1/root", "released", Actor("guest"),
    {"decision": 17, "token_id": "ab" * 16, "emulated": False, "version": 1, "tee_pubkey": {"x": "a" * 43}},
)  # fmt: skip
DRAFT = Draft(_EVENT.time, _EVENT.kind, _EVENT.subject, _EVENT.outcome, _EVENT.record)


def run() -> list[dict[str, Any]]:
    """The rows of this module."""
    with tempfile.TemporaryDirectory(dir=Path(".cache")) as name:
        folder = Path(name)
        floor = _flushes(folder / "floor")
        rate, latency = appends(Database(folder / "log.db"))
        return [
            {
                "name": f"audit records/s, durable, {WRITERS} writers, SQLite", "ours": rate, "peer": floor,
                "ratio": rate / floor, "target": "8000/s", "met": rate >= 8000,
                "detail": f"peer: one fdatasync a record; median wait {latency * 1000:.2f} ms",
            },
            *_postgres_rows(floor),
            _proof_row(folder / "large.db"),
        ]  # fmt: skip


def _postgres_rows(floor: float) -> list[dict[str, Any]]:
    """The same on PostgreSQL; nothing where it is not installed."""
    if programs() is None:
        return []
    server = PostgresServer()
    try:
        rate, latency = appends(Database(server.new_database()))
    finally:
        server.remove()
    return [
        {
            "name": f"audit records/s, {WRITERS} writers, PostgreSQL (files in memory)", "ours": rate, "peer": floor,
            "ratio": rate / floor, "target": "4000/s", "met": rate >= 4000,
            "detail": f"peer: one fdatasync a record; median wait {latency * 1000:.2f} ms",
        }
    ]  # fmt: skip


def appends(database: Database) -> tuple[float, float]:
    """Records a second and the median wait, by :data:`WRITERS` threads through one group commit."""
    database.create()
    log, stop = GroupCommit(database), time.perf_counter() + SECONDS

    def writer(_: int) -> list[float]:
        waits = []
        while (start := time.perf_counter()) < stop:
            log.append(DRAFT)
            waits.append(time.perf_counter() - start)
        return waits

    with ThreadPoolExecutor(WRITERS) as pool:
        waits = [wait for waits in pool.map(writer, range(WRITERS)) for wait in waits]
    database.close()
    return len(waits) / SECONDS, median(waits)


def _flushes(path: Path) -> float:
    """The floor: threads that append the same bytes to a file, a flush each."""
    line, counts, stop = _EVENT.record(1, bytes(32)), [0] * WRITERS, time.perf_counter() + 1
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

    def writer(index: int) -> None:
        while time.perf_counter() < stop:
            os.write(descriptor, line)
            os.fdatasync(descriptor)
            counts[index] += 1

    threads = [threading.Thread(target=writer, args=(index,)) for index in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.close(descriptor)
    return float(sum(counts))


def _proof_row(path: Path) -> dict[str, Any]:
    database, size = Database(path), LARGE
    _fill(database, size)
    spent, longest = [], 0
    with database.read() as tx:
        root = tree.root(tx, size)
        for number in range(0, size, size // 50):
            start = time.perf_counter()
            proof = tree.inclusion(tx, number, size)
            spent.append(time.perf_counter() - start)
            longest = max(longest, len(proof))
            verify_inclusion(leaf_hash(number.to_bytes(8, "big")), number, size, proof, root)
    bytes_of_proof = 45 * longest  # base64 and a newline
    return {
        "name": f"inclusion proof in a log of {size:,} records, ms", "ours": median(spent) * 1000, "peer": 5.0,
        "ratio": 0.005 / median(spent), "target": "5 ms, 2 KB", "met": median(spent) < 0.005 and bytes_of_proof < 2048,
        "detail": f"{longest} hashes, {bytes_of_proof} bytes; CVM_BENCH_RECORDS=10000000 for ten million",
    }  # fmt: skip


def _fill(database: Database, size: int) -> None:
    """A tree alone: its proofs do not look at the records."""
    database.create()
    frontier, step = Frontier(), 50_000
    for first in range(0, size, step):
        nodes = [
            node
            for at in range(first, min(size, first + step))
            for node in frontier.push(leaf_hash(at.to_bytes(8, "big")))
        ]
        with database.write() as tx:
            tree.add(tx, nodes)
