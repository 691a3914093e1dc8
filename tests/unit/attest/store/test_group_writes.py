"""What threads of one worker write in one transaction: each gets its own answer, and nobody's before it is durable."""

from __future__ import annotations

import hashlib
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection

from attest.audit.errors import AuditBroken
from attest.broker.release import Credential, release
from attest.store import blobs, group, records
from attest.store.engine import Database
from attest.store.errors import NotFound, StoreUnavailable
from attest.store.group import GroupWrites
from attest.store.records import Draft
from policy.errors import CvmError
from tests.fakes.amd_pki import NOW
from tests.fakes.service_world import PATH, ServiceWorld

Job = Callable[[Connection], int]


@pytest.fixture
def database(store: str | None, tmp_path: Path) -> Database:
    found = Database(store or tmp_path / "attest.db", busy_seconds=20)
    found.create()
    return found


def append(word: str) -> Job:
    draft = Draft(NOW, "test", word, "ok", lambda seq, previous: f"{seq} {word} {previous.hex()}".encode())
    return lambda tx: records.append(tx, draft)


def refused(word: str, error: Exception) -> Job:
    """Writes, and then says no."""

    def job(tx: Connection) -> int:
        append(word)(tx)
        blobs.put(tx, word.encode())
        raise error

    return job


def together(database: Database, jobs: list[Job]) -> list[Future[int]]:
    """Run ``jobs`` in one transaction, after one of their own that holds up its leader."""
    writes, begun, go = GroupWrites(database), threading.Event(), threading.Event()

    def first(tx: Connection) -> int:
        begun.set()
        go.wait(20)
        return append("first")(tx)

    with ThreadPoolExecutor(len(jobs) + 1) as pool:
        leader = pool.submit(writes.run, first)
        begun.wait(20)
        found = [pool.submit(writes.run, job) for job in jobs]
        while len(writes._waiting) < len(jobs):
            pass
        go.set()
    assert leader.result() == 1
    return found


@pytest.mark.parametrize("others", [0, 1], ids=["next to lead", "in the middle"])
def test_nobody_waits_for_a_thread_that_was_interrupted(database: Database, others: int) -> None:
    writes, begun, go = GroupWrites(database), threading.Event(), threading.Event()

    def first(tx: Connection) -> int:
        begun.set()
        go.wait(20)
        return append("first")(tx)

    interrupted = threading.Event()

    def interrupt(*_: object) -> None:
        if not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt

    def insist(thread: int) -> None:
        """A signal just before a thread blocks does not wake it: one more does."""
        queued(others + 1)
        while not interrupted.wait(0.01):
            signal.pthread_kill(thread, signal.SIGUSR1)

    def queued(count: int) -> None:
        while len(writes._waiting) < count:
            pass

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = [pool.submit(writes.run, first)]
            begun.wait(20)
            found += [pool.submit(writes.run, append(f"before {number}")) for number in range(others)]
            queued(others)
            pool.submit(insist, threading.get_ident())
            with pytest.raises(KeyboardInterrupt):
                writes.run(append("interrupted"))
            found.append(pool.submit(writes.run, append("after")))
            queued(others + 2)
            go.set()
            assert len({one.result(20) for one in found}) == others + 2
    finally:
        go.set()
        signal.signal(signal.SIGUSR1, before)
    assert writes.run(append("later")) == others + 4


def subjects(database: Database) -> list[str]:
    with database.read() as tx:
        return [stored.subject for stored in records.walk(tx)]


def test_jobs_that_come_together_are_one_transaction_and_each_gets_its_own_answer(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    write = group._write
    monkeypatch.setattr(group, "_write", lambda tx, batch: (sizes.append(len(batch)), write(tx, batch)))
    found = together(database, [append("a"), append("b"), append("c")])
    assert sizes == [1, 3]
    assert {subjects(database)[one.result() - 1] for one in found} == {"a", "b", "c"}


@pytest.mark.parametrize("error", [NotFound("no"), AuditBroken("no")])
def test_a_job_that_says_no_is_undone_alone(database: Database, error: CvmError) -> None:
    first, denied, last = together(database, [append("a"), refused("b", error), append("c")])
    assert denied.exception() is error
    assert {first.result(), last.result()} == {2, 3}
    assert sorted(subjects(database)) == ["a", "c", "first"]
    with database.read() as tx:
        assert blobs.get(tx, hashlib.sha256(b"b").digest()) is None


def test_a_job_alone_that_says_no_leaves_nothing(database: Database) -> None:
    with pytest.raises(NotFound):
        GroupWrites(database).run(refused("x", NotFound("no")))
    assert subjects(database) == []


@pytest.mark.parametrize("error", [ZeroDivisionError(), StoreUnavailable("disk full")])
def test_what_may_have_broken_the_transaction_fails_everybody_in_it(database: Database, error: Exception) -> None:
    found = together(database, [append("a"), refused("b", error), append("c")])
    assert [type(one.exception()) for one in found] == [type(error)] * 3
    assert subjects(database) == ["first"]
    assert GroupWrites(database).run(append("later")) == 2


def test_of_a_batch_that_cannot_be_committed_no_key_is_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = ServiceWorld(tmp_path / "service")
    guests = [world.client() for _ in range(4)]
    for guest in guests:
        guest.handshake()
    before = len(world.records())
    write, done = group._write, []

    def full(tx: Connection, batch: Sequence[group._Waiting]) -> None:
        write(tx, batch)
        done.append(batch)
        raise StoreUnavailable("database: disk full")

    monkeypatch.setattr(group, "_write", full)

    def ask(cookie: str | None) -> object:
        return release(world.service, Credential(cookie), PATH, world.now)

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, guest.cookie) for guest in guests]
    assert [type(one.exception()) for one in asked] == [StoreUnavailable] * 4
    assert done
    assert len(world.records()) == before


@pytest.mark.parametrize("store", [None], ids=["sqlite"])
def test_a_batch_lasts_where_one_of_its_parts_has_to(database: Database) -> None:
    writes, begun, go = GroupWrites(database), threading.Event(), threading.Event()

    def level(tx: Connection) -> int:
        return int(tx.exec_driver_sql("PRAGMA synchronous").scalar_one())

    def first(tx: Connection) -> int:
        begun.set()
        go.wait(20)
        return level(tx)

    with ThreadPoolExecutor(3) as pool:
        leader = pool.submit(writes.run, first, lasting=False)
        begun.wait(20)
        found = [pool.submit(writes.run, level, lasting=lasting) for lasting in (False, True)]
        while len(writes._waiting) < 2:
            pass
        go.set()
    assert (leader.result(), [future.result() for future in found]) == (1, [2, 2])
    assert (writes.run(level, lasting=False), writes.run(level)) == (1, 2)


def test_of_an_exchange_decision_and_release_are_flushed_and_challenge_and_nonce_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A nonce's use is in the journal before the record that says what came of it: no key without it."""
    world, real, lasting = ServiceWorld(tmp_path / "service"), Database.write, []
    monkeypatch.setattr(Database, "write", lambda self, **how: lasting.append(how["lasting"]) or real(self, **how))
    assert world.client().resource(PATH)
    assert lasting == [False, False, True, True]
