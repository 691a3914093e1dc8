"""Nothing leaves before it is on record; a nonce is used once, whoever races for it."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from attest.broker.attest import consume_nonce
from attest.broker.errors import SessionRefused
from attest.broker.protocol import parse_attest
from attest.broker.verify_trail import verify_trail
from tests.fakes.kbs_client import KbsClient, KbsError
from tests.fakes.service_world import PATH, SECRET, ServiceWorld

RACERS = 6
Trouble = Callable[[ServiceWorld], AbstractContextManager[None]]


@contextmanager
def locked(world: ServiceWorld) -> Iterator[None]:
    """Another process holds the database for writing."""
    other = sqlite3.connect(world.database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


@contextmanager
def unwritable(world: ServiceWorld) -> Iterator[None]:
    """Writing fails, as on a read-only or full disk. One thread has two connections here, one for writing."""
    with world.database.write() as writing, world.database.read() as reading:
        for tx in (writing, reading):
            tx.exec_driver_sql("PRAGMA query_only = ON")
    try:
        yield
    finally:  # what failed to write went back to the pool: both are there now
        with world.database.read() as one, world.database.read() as other:
            for tx in (one, other):
                tx.exec_driver_sql("PRAGMA query_only = OFF")


@contextmanager
def unwritable_records(world: ServiceWorld) -> Iterator[None]:
    """Everything can be written but audit records."""
    with sqlite3.connect(world.database.path) as other:
        other.execute("CREATE TRIGGER stop BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no more records'); END")
    try:
        yield
    finally:
        with sqlite3.connect(world.database.path) as other:
            other.execute("DROP TRIGGER stop")


@pytest.fixture
def world(tmp_path: Path) -> ServiceWorld:
    return ServiceWorld(tmp_path / "service", busy_seconds=0.1)


def attested(world: ServiceWorld) -> KbsClient:
    client = world.client()
    client.handshake()
    return client


@pytest.mark.parametrize(("trouble", "status"), [(locked, 503), (unwritable, 503), (unwritable_records, 500)])
def test_no_key_leaves_while_the_record_of_it_cannot_be_written(
    world: ServiceWorld, trouble: Trouble, status: int
) -> None:
    client = attested(world)
    with trouble(world):
        reply = client.get(f"/resource/{PATH}")
    assert reply.status == status
    assert "ciphertext" not in reply.json()
    assert world.records("release") == []
    assert client.resource(PATH) == SECRET


def test_a_database_that_is_busy_is_unavailable_and_says_when_to_ask_again(world: ServiceWorld) -> None:
    client = attested(world)
    with locked(world):
        reply = client.get(f"/resource/{PATH}")
    assert (reply.status, reply.headers["Retry-After"]) == (503, "5")
    assert str(world.folder) not in reply.body.decode(), "a guest must not learn paths"


@pytest.mark.parametrize("trouble", [locked, unwritable, unwritable_records])
def test_no_token_leaves_while_the_decision_cannot_be_written(world: ServiceWorld, trouble: Trouble) -> None:
    client = world.client()
    client.auth()
    body = client.evidence()
    with trouble(world), pytest.raises(KbsError) as caught:
        client.attest(body)
    assert caught.value.status in (500, 503)
    assert world.records("decision") == []


def test_a_crash_after_verification_does_not_give_the_nonce_back(world: ServiceWorld) -> None:
    client = world.client()
    client.auth()
    body = client.evidence()
    with unwritable_records(world), pytest.raises(KbsError):
        client.attest(body)
    with pytest.raises(KbsError, match="nonce already used"):
        client.attest(body)


def test_of_many_processes_that_race_for_a_nonce_exactly_one_gets_it(tmp_path: Path) -> None:
    world = ServiceWorld(tmp_path / "service")
    client = world.client()
    client.auth()
    request = parse_attest(json.dumps(client.evidence()).encode())
    fork = multiprocessing.get_context("fork")
    results: multiprocessing.Queue[bool] = fork.Queue()
    start = fork.Event()

    def race() -> None:
        start.wait(10)
        try:
            consume_nonce(world.service, client.cookie or "", request, world.now)
        except SessionRefused:
            results.put(False)
        else:
            results.put(True)

    racers = [fork.Process(target=race) for _ in range(RACERS)]
    for racer in racers:
        racer.start()
    start.set()
    won = [results.get(timeout=30) for _ in racers]
    for racer in racers:
        racer.join(30)
    assert sorted(won) == [False] * (RACERS - 1) + [True]


def test_processes_that_write_at_once_leave_one_unbroken_chain(tmp_path: Path) -> None:
    world = ServiceWorld(tmp_path / "service")
    fork = multiprocessing.get_context("fork")

    def write(name: int) -> None:
        for round_ in range(10):
            world.put(f"default/{name}/{round_}", b"x")  # type: ignore[arg-type]

    writers = [fork.Process(target=write, args=(name,)) for name in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert verify_trail(world.database).records == 3 + 40


def test_the_secret_is_nowhere_in_the_folder_in_the_clear(world: ServiceWorld) -> None:
    attested(world).resource(PATH)
    for path in world.folder.iterdir():
        assert SECRET not in path.read_bytes(), path.name
