"""The database: durable, one writer at a time, safe across forks, ours or refused."""

from __future__ import annotations

import sqlite3
import stat
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from attest.store import sessions
from attest.store.engine import Database
from attest.store.errors import StoreUnavailable, StoreUnsupported
from attest.store.schema import REVISION
from attest.store.sessions import Consumed
from attest.store.times import from_micros, to_micros
from tests.fakes.amd_pki import NOW


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database(tmp_path / "attest.db", busy_seconds=0.1)
    database.create()
    return database


def test_every_connection_is_durable_and_journals_ahead(database: Database) -> None:
    with database.read() as tx:
        found = {
            name: tx.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}


def test_what_need_not_last_is_written_without_a_flush_and_nothing_else_is(database: Database) -> None:
    for lasting in (True, False, True, False):
        with database.write(lasting=lasting) as tx:
            assert tx.exec_driver_sql("PRAGMA synchronous").scalar_one() == 1 + lasting
        for kind in database._left.values():  # as another thread's would: any connection may serve either next
            while kind:
                kind.pop().close()


def test_the_file_belongs_to_its_owner_alone(database: Database) -> None:
    assert stat.S_IMODE(database.path.stat().st_mode) == 0o600


def test_an_existing_file_is_not_overwritten(database: Database) -> None:
    with pytest.raises(StoreUnsupported, match="exists already"):
        Database(database.path).create()


@pytest.mark.parametrize("content", [b"", b"not a database at all" * 100, None])
def test_a_file_that_is_no_database_of_ours_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.db"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StoreUnsupported):
        Database(path).check()
    assert content is not None or not path.exists(), "looking for a database must not make one"


def test_a_database_of_another_revision_is_refused_by_name(database: Database) -> None:
    with database.write() as tx:
        tx.exec_driver_sql("UPDATE alembic_version SET version_num = '0001_older'")
    with pytest.raises(StoreUnsupported, match=f"revision 0001_older, want {REVISION}"):
        database.check()


def test_a_transaction_that_raises_changes_nothing(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as tx:
        sessions.add(tx, "a", nonce="n", tee="snp", now=NOW, expires=NOW)
        raise ZeroDivisionError
    with database.read() as tx:
        assert sessions.find(tx, "a") is None


def test_what_a_failed_transaction_left_is_not_in_the_next_one(database: Database) -> None:
    for number in range(3):
        with pytest.raises(ZeroDivisionError), database.write() as tx:
            sessions.add(tx, f"lost {number}", nonce=f"n{number}", tee="snp", now=NOW, expires=NOW)
            raise ZeroDivisionError
        with database.write() as tx:
            assert sessions.find(tx, f"lost {number}") is None
            sessions.add(tx, f"kept {number}", nonce=f"n{number}", tee="snp", now=NOW, expires=NOW)
    with database.read() as tx:
        assert all(sessions.find(tx, f"kept {number}") is not None for number in range(3))


def test_a_reader_is_not_held_up_by_a_writer_and_a_second_writer_is(database: Database) -> None:
    with database.write() as tx:
        sessions.add(tx, "a", nonce="n", tee="snp", now=NOW, expires=NOW)
        with database.read() as other:
            assert sessions.find(other, "a") is None
        with pytest.raises(StoreUnavailable, match="locked"), database.write():
            raise AssertionError("two writers at once")


def test_the_cookie_itself_is_not_in_the_database(database: Database) -> None:
    with database.write() as tx:
        sessions.add(tx, "the-cookie-value", nonce="n", tee="snp", now=NOW, expires=NOW)
    database.close()
    assert b"the-cookie-value" not in database.path.read_bytes()


def open_session(database: Database, now: datetime = NOW) -> None:
    with database.write() as tx:
        sessions.add(tx, "s", nonce="n", tee="snp", now=now, expires=now + timedelta(minutes=2))


@pytest.mark.parametrize(
    ("session", "nonce", "after", "outcome"),
    [
        ("s", "n", timedelta(minutes=1), Consumed.NOW),
        ("s", "n", timedelta(minutes=2), Consumed.EXPIRED),
        ("s", "m", timedelta(), Consumed.OTHER_NONCE),
        ("t", "n", timedelta(), Consumed.UNKNOWN_SESSION),
    ],
)
def test_consuming_says_why_not(
    database: Database, session: str, nonce: str, after: timedelta, outcome: Consumed
) -> None:
    open_session(database)
    with database.write() as tx:
        assert sessions.consume(tx, session, nonce, NOW + after) is outcome


def test_a_nonce_is_consumed_once(database: Database) -> None:
    open_session(database)
    with database.write() as tx:
        assert [sessions.consume(tx, "s", "n", NOW) for _ in range(2)] == [Consumed.NOW, Consumed.ALREADY]


def test_sessions_long_expired_are_forgotten(database: Database) -> None:
    open_session(database)
    with database.write() as tx:
        later = NOW + timedelta(hours=2)
        sessions.add(tx, "new", nonce="m", tee="snp", now=later, expires=later)
        assert sessions.find(tx, "s") is None


def test_a_time_survives_to_the_microsecond_and_a_naive_one_is_a_mistake() -> None:
    when = NOW.replace(microsecond=123457)
    assert from_micros(to_micros(when)) == when
    with pytest.raises(TypeError):
        to_micros(datetime(2026, 1, 1))


def test_a_database_that_vanished_is_unavailable(database: Database) -> None:
    database.close()
    database.path.rename(database.path.with_name("elsewhere"))
    with pytest.raises(StoreUnavailable), database.read():
        raise AssertionError("read from nothing")


def test_two_sessions_never_share_a_nonce(database: Database) -> None:
    open_session(database)
    with pytest.raises(Exception, match="UNIQUE"), database.write() as tx:
        sessions.add(tx, "other", nonce="n", tee="snp", now=NOW, expires=NOW)
    assert sqlite3.sqlite_version
