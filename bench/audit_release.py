"""What auditing adds to a release, by threads of one worker that write together, at half of what they can do.

The same releases are made in three ways in turns: without a record (everything else, in a reading transaction), each in
a transaction of its own, and several in one. The record is durable before the key goes out in the last two.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from sqlalchemy import Connection

from attest.broker import release as releases
from attest.broker.conditions import judge
from attest.broker.guest_facts import facts_from_text
from attest.broker.release import Asked, Credential, release
from attest.broker.service import Service
from attest.store import records, secrets
from tests.fakes.service_world import PATH, ServiceWorld

THREADS, SECONDS = 8, 2.0
Work = Callable[[str], None]


def run() -> list[dict[str, Any]]:
    """The rows of this module: on this disk, and in memory, where a flush costs nothing."""
    places = [("", ".cache"), (" (files in memory)", "/dev/shm")]
    return [row for words, place in places if os.access(place, os.W_OK) for row in _rows(words, Path(place))]


def _rows(words: str, place: Path) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(dir=place) as name:
        world = ServiceWorld(Path(name) / "service", busy_seconds=30)
        sessions = [_session(world) for _ in range(THREADS)]
        grouped, alone, bare = _ways(world)
        capacity = {way: _latencies(way, sessions, 0) for way in (alone, grouped)}
        rates = {way: len(found) / SECONDS for way, found in capacity.items()}
        pace = THREADS / (rates[grouped] / 2)
        floor, added = median(_latencies(bare, sessions, pace)), median(_latencies(grouped, sessions, pace))
        flush = _flush(Path(name) / "flushed")
    delay = added - floor
    load = f"{THREADS} threads, a flush takes {flush * 1000:.2f} ms, load {os.getloadavg()[0]:.1f}"
    return [
        {
            "name": f"a release's latency added by auditing, half load, ms{words}", "ours": round(delay * 1000, 2),
            "peer": 10.0, "ratio": round(0.010 / delay, 2) if delay > 0 else 0.0, "target": "under 10 ms",
            "met": delay < 0.010,
            "detail": f"median {added * 1000:.2f} ms, {floor * 1000:.2f} without a record; {load}",
        },
        {
            "name": f"releases/s, several in one transaction{words}", "ours": round(rates[grouped]),
            "peer": round(rates[alone]), "ratio": round(rates[grouped] / rates[alone], 2),
            "target": "more than one by one", "met": rates[grouped] > rates[alone],
            "detail": f"peer: a transaction each; {load}",
        },
    ]  # fmt: skip


def _flush(path: Path) -> float:
    """Seconds for one small write and its flush, the median of fifty."""
    spent = []
    with path.open("wb", buffering=0) as file:
        for _ in range(50):
            start = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            spent.append(time.perf_counter() - start)
    return median(spent)


def _session(world: ServiceWorld) -> str:
    client = world.client()
    client.handshake()
    return client.cookie or ""


def _ways(world: ServiceWorld) -> tuple[Work, Work, Work]:
    service, now = world.service, world.now

    def grouped(session: str) -> None:
        release(service, Credential(session), PATH, now)

    def alone(session: str) -> None:
        with service.database.write() as tx:
            releases._release(tx, service, Asked(Credential(session), None, PATH, now))

    def bare(session: str) -> None:
        with service.database.read() as tx:
            _unrecorded(tx, service, session, now)

    return grouped, alone, bare


def _unrecorded(tx: Connection, service: Service, session: str, now: Any) -> None:
    decision = releases._decision(tx, session, None)
    row = secrets.sealed(tx, PATH)
    if decision is None or row is None:
        raise LookupError("the session or the resource is gone")
    facts = facts_from_text(decision.facts)
    releases._refusal(decision, PATH, row, facts)
    records.facts(tx, decision.id)
    judge(tx, PATH, facts, now)
    releases._wrap(service, Asked(Credential(session), None, PATH, now), row, decision)


def _latencies(work: Work, sessions: list[str], pace: float) -> list[float]:
    """Seconds of each release, by one thread for each session: at random, one in ``pace`` seconds, or as fast as it
    goes.
    """
    found: list[float] = []
    stop = time.perf_counter() + SECONDS

    def guest(index: int) -> None:
        chance = random.Random(index)
        due = time.perf_counter() + chance.random() * pace
        while due < stop:
            time.sleep(max(0.0, due - time.perf_counter()))
            start = time.perf_counter()
            work(sessions[index])
            found.append(time.perf_counter() - start)
            due = time.perf_counter() + (chance.expovariate(1 / pace) if pace else 0)

    with ThreadPoolExecutor(len(sessions)) as pool:
        list(pool.map(guest, range(len(sessions))))
    return found
