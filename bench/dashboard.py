"""The dashboard over a log of a million records: the overview's server time, as HTML and as JSON, and the fleet's.

Half of the records are decisions, spread over the last thirty days, so the chart counts all of them; the others are
releases. Compared with the time SQLite takes to count the decisions' rows in the table.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert, text

from attest.audit.record import DECISION, GUEST, RELEASE, Event
from attest.store.schema import audit
from attest.store.times import to_micros
from tests.fakes.amd_pki import NOW
from tests.fakes.dashboard_world import launch, pages_over, value
from tests.fakes.service_world import ServiceWorld

RECORDS = int(os.environ.get("CVM_BENCH_RECORDS", "1000000"))
TARGET_MS = 200
CHIPS = 20_000
_BATCH = 20_000
_RUNS = 11
_OUTCOMES = ("affirming",) * 17 + ("contraindicated", "not-genuine", "unavailable")


def run() -> list[dict[str, Any]]:
    """One row each for HTML and JSON, and one for the fleet."""
    with tempfile.TemporaryDirectory(prefix="cvm-bench-") as folder:
        world = _furnish(Path(folder) / "service")
        client = pages_over(world).test_client()
        peer = _median(lambda: _count(world))
        html = _median(lambda: client.get("/", headers={"Host": "127.0.0.1"}).get_data())
        twin = _median(lambda: client.get("/overview.json", headers={"Host": "127.0.0.1"}).get_data())
        # As of another record each time: what was counted once is remembered.
        places = iter(range(RECORDS, 0, -1))
        fleet = _median(lambda: client.get(f"/fleet?asof={next(places)}", headers={"Host": "127.0.0.1"}).get_data())
    return [_row("as HTML", html, peer), _row("as JSON", twin, peer), _fleet(fleet, peer)]


def _fleet(ours: float, peer: float) -> dict[str, Any]:
    """No figure is wanted of it."""
    found = _row("", ours, peer)
    detail = f"median of {_RUNS} on SQLite; {CHIPS:,} chips by their newest decision, counted anew each time"
    name = f"dashboard: fleet of {CHIPS:,} chips in {RECORDS:,} records"
    return found | {"name": name, "target": "none named", "met": True, "detail": detail}


def _row(name: str, ours: float, peer: float) -> dict[str, Any]:
    return {
        "name": f"dashboard: overview of {RECORDS:,} records, {name}",
        "ours": f"{ours:.0f} ms",
        "peer": f"{peer:.0f} ms (count)",
        "ratio": f"{ours / peer:.2f}",
        "target": f"< {TARGET_MS} ms",
        "met": ours < TARGET_MS,
        "detail": f"median of {_RUNS} on SQLite; half are decisions of the last 30 days, all counted",
    }


def _median(act: Any) -> float:
    """Milliseconds."""
    found = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        act()
        found.append((time.perf_counter() - start) * 1000)
    return statistics.median(found)


def _count(world: ServiceWorld) -> None:
    with world.database.read() as tx:
        query = "SELECT outcome, count(*) FROM audit NOT INDEXED WHERE kind = 'decision' GROUP BY outcome"
        tx.execute(text(query)).all()


def _furnish(folder: Path) -> ServiceWorld:
    """Real decisions at the end; before them rows of the same columns, whose records are short."""
    world = ServiceWorld(folder, now=NOW - timedelta(days=30))
    world.add_reference(value("shop-1", launch()))
    rows = _rows(world)
    while batch := [row for row, _ in zip(rows, range(_BATCH), strict=False)]:
        with world.database.write() as tx:
            tx.execute(insert(audit), batch)
    world.now = NOW
    with world.database.write() as tx:  # the tree of made-up rows is not made: nothing here proves anything
        tx.execute(text("DELETE FROM leaves"))
    return world


def _rows(world: ServiceWorld) -> Iterator[dict[str, Any]]:
    chance = random.Random(7)
    start = len(world.records()) + 1
    digest, step = launch_digest(), timedelta(days=30) / RECORDS
    for seq in range(start, RECORDS + 1):
        kind = DECISION if seq % 2 else RELEASE
        outcome = chance.choice(_OUTCOMES) if kind == DECISION else "released"
        claims = None if outcome == "not-genuine" else {"measurement": digest}
        body = {"claims": claims, "summary": outcome, "emulated": True, "token_id": None, "decision": seq - 1}
        when = world.now + step * seq
        record = Event(when, kind, digest, outcome, GUEST, body).record(seq, bytes(32))
        yield {
            "seq": seq, "time": to_micros(when), "kind": kind, "subject": digest, "outcome": outcome, "record": record,
            "sha256": hashlib.sha256(record).digest(), "chip": f"{seq // 2 % CHIPS + 1:0128x}", "measurement": digest,
            "vm": "shop-1", "level": f"snp · Genoa · microcode {seq % 7 + 78}" if kind == DECISION else None,
        }  # fmt: skip


def launch_digest() -> str:
    """The digest of the one VM of the log."""
    return str(json.loads(value("shop-1", launch()))["launch_digest"])
