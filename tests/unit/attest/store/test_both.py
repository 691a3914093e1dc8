"""What holds on SQLite and on PostgreSQL alike, and what PostgreSQL adds."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select

from attest.store import blobs, decisions, records, rules, sessions
from attest.store.blobs import Kept
from attest.store.decisions import StoredDecision
from attest.store.engine import Database
from attest.store.errors import StoreUnavailable, StoreUnsupported
from attest.store.postgres import database_url
from attest.store.schema import audit, settings
from attest.store.sessions import Consumed
from tests.fakes.amd_pki import NOW
from tests.fakes.postgres import PostgresServer

LATER = NOW + timedelta(minutes=2)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    if request.param == "sqlite":
        found = Database(tmp_path / "attest.db", busy_seconds=20)
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        found = Database(server.new_database(), busy_seconds=20)
    found.create()
    request.addfinalizer(found.close)
    return found


@pytest.fixture
def address(postgres: PostgresServer) -> str:
    """A database of ours in PostgreSQL, for what only it can do."""
    found = postgres.new_database()
    Database(found).create()
    return found


def _append(database: Database, subject: str) -> int:
    with database.write() as tx:
        return records.append(
            tx, records.Draft(NOW, "test", subject, "ok", lambda seq, previous: b"%d " % seq + previous.hex().encode())
        )


def test_a_new_database_passes_its_check_and_is_not_made_twice(database: Database) -> None:
    database.check()
    with pytest.raises(StoreUnsupported, match="exists already"):
        database.create()


def test_a_database_without_our_tables_is_refused(postgres: PostgresServer) -> None:
    with pytest.raises(StoreUnsupported, match="not a database of this service"):
        Database(postgres.new_database()).check()


def test_records_of_many_writers_are_numbered_without_gaps_and_chained(database: Database) -> None:
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda index: _append(database, f"s{index}"), range(80)))
    assert sorted(numbers) == list(range(1, 81))
    with database.read() as tx:
        stored = list(records.walk(tx))
    assert [entry.seq for entry in stored] == list(range(1, 81))
    for before, after in itertools.pairwise(stored):
        assert after.record.endswith(before.sha256.hex().encode())


def test_of_many_that_bring_one_nonce_exactly_one_consumes_it(database: Database) -> None:
    with database.write(alone=False) as tx:
        sessions.add(tx, "id", nonce="n", tee="snp", now=NOW, expires=LATER)
    start = threading.Barrier(8)

    def consume(_: int) -> Consumed:
        start.wait()
        with database.write(alone=False) as tx:
            return sessions.consume(tx, "id", "n", NOW)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(consume, range(8)))
    assert sorted(item.name for item in found) == ["ALREADY"] * 7 + ["NOW"]


def test_a_transaction_that_raises_changes_nothing(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as tx:
        blobs.put(tx, b"never")
        raise ZeroDivisionError
    with database.read() as tx:
        assert tx.scalar(select(func.count()).select_from(audit)) == 0


def test_a_broken_constraint_is_a_defect_and_not_a_database_that_is_away(database: Database) -> None:
    with database.write() as tx:
        sessions.add(tx, "one", nonce="n", tee="snp", now=NOW, expires=LATER)
    with pytest.raises(Exception, match=r"(?i)unique") as caught, database.write() as tx:
        sessions.add(tx, "other", nonce="n", tee="snp", now=NOW, expires=LATER)
    assert not isinstance(caught.value, StoreUnavailable)


@pytest.mark.parametrize("emulated", [True, False])
def test_a_decision_comes_back_as_it_was_put(database: Database, emulated: bool) -> None:
    number = _append(database, "s")
    put = StoredDecision(number, "t", NOW, LATER, "affirming", 3, emulated, "{}", ("a", "b"), facts="{}")
    with database.write() as tx:
        decisions.add(tx, put)
        assert decisions.get(tx, number) == put
        assert decisions.by_token(tx, "t") == put
        assert type(decisions.get(tx, number).emulated) is bool
        assert decisions.by_token(tx, "other") is None


def test_a_child_process_uses_a_connection_of_its_own(database: Database) -> None:
    with database.write() as tx:
        sessions.add(tx, "parent", nonce="1", tee="snp", now=NOW, expires=NOW)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with database.write() as tx:
                sessions.add(tx, "child", nonce="2", tee="snp", now=NOW, expires=NOW)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    with database.write() as tx:
        assert sessions.find(tx, "child") is not None
        sessions.add(tx, "again", nonce="3", tee="snp", now=NOW, expires=NOW)


def test_bytes_kept_together_are_put_once_each(database: Database) -> None:
    kept = Kept()
    digests = [kept.add(b"one"), kept.add(b"two"), kept.add(b"one")]
    with database.write() as tx:
        blobs.put(tx, b"two")
        kept.put(tx)
        assert [blobs.get(tx, digest) for digest in digests] == [b"one", b"two", b"one"]


def test_many_that_read_at_once_leave_a_connection_for_a_writer_and_the_other_way_round(database: Database) -> None:
    together = threading.Barrier(8)

    def read(_: int) -> None:
        with database.read() as tx:
            together.wait(20)
            rules.generation(tx)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(8)))
        assert len(list(pool.map(lambda index: _append(database, f"s{index}"), range(16)))) == 16
        list(pool.map(read, range(8)))


def test_a_reader_sees_one_moment(database: Database) -> None:
    _append(database, "first")
    with database.read() as tx:
        before = tx.scalar(select(func.count()).select_from(audit))
        _append(database, "second")
        assert tx.scalar(select(func.count()).select_from(audit)) == before == 1


def test_bytes_times_and_large_numbers_come_back(database: Database) -> None:
    data = bytes(range(256)) * 40
    with database.write() as tx:
        digest = blobs.put(tx, data)
        tx.execute(insert(audit).values(
            seq=5_000_000_000, time=2**62, kind="k", subject="s", outcome="o", record=data, sha256=digest
        ))  # fmt: skip
        rules.set_policy(tx, digest)
    with database.read() as tx:
        assert blobs.get(tx, digest) == data
        assert tx.scalar(select(audit.c.time)) == 2**62
        assert rules.active_policy(tx) == digest
        assert rules.generation(tx) == 2


def test_a_reader_cannot_write(address: str) -> None:
    with pytest.raises(StoreUnavailable, match="read-only"), Database(address).read() as tx:
        tx.execute(insert(settings).values(name="x", value="y"))


def test_a_writer_that_waits_too_long_is_told_to_come_back(address: str) -> None:
    patient, hurried = Database(address), Database(address, busy_seconds=0.2)
    with patient.write(), pytest.raises(StoreUnavailable, match="lock timeout"), hurried.write():
        raise AssertionError("two writers at once")


def test_a_statement_that_needs_no_order_does_not_wait_for_the_writer(address: str) -> None:
    database = Database(address)
    with database.write(), database.write(alone=False) as tx:
        sessions.add(tx, "id", nonce="n", tee="snp", now=NOW, expires=LATER)


def test_what_was_acknowledged_survives_a_crash_of_the_server_and_service_goes_on(
    address: str, postgres: PostgresServer
) -> None:
    database = Database(address)
    assert _append(database, "before") == 1
    postgres.stop(signal.SIGQUIT)
    with pytest.raises(StoreUnavailable):
        _append(database, "while it is down")
    postgres.start()
    assert _append(database, "after") == 2


def test_our_connections_wait_for_stable_storage_whatever_the_database_says(address: str) -> None:
    database = Database(address)
    with database.write() as tx:
        name = tx.exec_driver_sql("SELECT current_database()").scalar_one()
        tx.exec_driver_sql(f"ALTER DATABASE {name} SET synchronous_commit = off")
    again = Database(address)
    again.check()
    with again.read() as tx:
        assert tx.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"
    for lasting, found in ((False, "off"), (True, "on")):
        with again.write(lasting=lasting) as tx:
            assert tx.exec_driver_sql("SHOW synchronous_commit").scalar_one() == found


def test_a_server_that_may_lose_what_it_acknowledged_is_refused(address: str, postgres: PostgresServer) -> None:
    postgres.stop()
    postgres.start("-c", "full_page_writes=off")
    try:
        with pytest.raises(StoreUnsupported, match="full_page_writes is off"):
            Database(address).check()
    finally:
        postgres.stop()
        postgres.start()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("postgresql://u:secret@h/d", "ends up in logs"),
        ("postgresql://u@h/d?password=secret", "ends up in logs"),
        ("mysql://h/d", "want postgresql://"),
        ("postgresql://h", "want postgresql://"),
        ("attest.db", "want postgresql://"),
    ],
)
def test_an_address_that_is_none_or_holds_a_password_is_refused(address: str, words: str) -> None:
    with pytest.raises(StoreUnsupported, match=words) as refused:
        database_url(address)
    assert "secret" not in refused.value.message
