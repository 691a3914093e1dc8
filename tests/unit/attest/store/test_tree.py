"""The tree over the records: grown with every record, proofs from few reads, many writers at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, delete, func, select, update

from attest.audit.merkle import EMPTY_ROOT, Frontier, leaf_hash, verify_consistency, verify_inclusion
from attest.store import group, records, tree
from attest.store.engine import Database
from attest.store.errors import StoreUnavailable, TreeIncomplete
from attest.store.group import GroupWrites
from attest.store.records import Draft
from attest.store.savepoint import Parts
from attest.store.schema import leaves
from tests.fakes.amd_pki import NOW


@pytest.fixture
def database(store: str | None, tmp_path: Path) -> Database:
    found = Database(store or tmp_path / "attest.db", busy_seconds=20)
    found.create()
    return found


def draft(word: str) -> Draft:
    return Draft(NOW, "test", word, "ok", lambda seq, previous: f"{seq} {word} {previous.hex()}".encode())


def written(draft: Draft) -> Callable[[Connection], int]:
    return lambda tx: records.append(tx, draft)


def record(word: str) -> Callable[[Connection], int]:
    return written(draft(word))


def append(database: Database, *words: str) -> list[int]:
    with database.write() as tx:
        return [records.append(tx, draft(word)) for word in words]


def plain_root(database: Database, size: int) -> bytes:
    frontier = Frontier()
    with database.read() as tx:
        for stored in list(records.walk(tx))[:size]:
            frontier.push(leaf_hash(stored.record))
    return frontier.root()


def test_the_tree_grows_with_the_records_however_they_are_grouped(database: Database) -> None:
    for count in (1, 2, 1, 7, 30, 1):
        append(database, *(f"w{index}" for index in range(count)))
    with database.read() as tx:
        assert tree.root(tx, 0) == EMPTY_ROOT
        for size in (1, 3, 4, 11, 42):
            assert tree.root(tx, size) == plain_root(database, size)


def test_every_record_is_proven_in_every_later_tree(database: Database) -> None:
    append(database, *(f"w{index}" for index in range(21)))
    with database.read() as tx:
        leaves = [leaf_hash(stored.record) for stored in records.walk(tx)]
        for size in range(1, 22):
            root = tree.root(tx, size)
            for index in range(size):
                verify_inclusion(leaves[index], index, size, tree.inclusion(tx, index, size), root)
            verify_consistency(size, 21, tree.consistency(tx, size, 21), root, tree.root(tx, 21))


def test_a_writer_whose_remembered_edge_is_stale_reads_it_again(database: Database) -> None:
    other = Database(database._backend.name if database.path is None else database.path, busy_seconds=20)
    for _ in range(3):
        append(database, "a")
        append(other, "b")
    with pytest.raises(ZeroDivisionError), database.write() as tx:
        records.append(tx, draft("never"))
        raise ZeroDivisionError
    append(database, "c")
    with database.read() as tx:
        assert tree.root(tx, 7) == plain_root(database, 7)
    other.close()


def test_what_was_undone_within_a_transaction_leaves_no_gap(database: Database) -> None:
    append(database, "a")
    with database.write() as tx:
        assert records.append(tx, draft("b")) == 2
        with pytest.raises(ZeroDivisionError), tx.begin_nested():
            assert records.append(tx, draft("undone")) == 3
            raise ZeroDivisionError
        assert records.append(tx, draft("c")) == 3
        parts = Parts(tx)
        for word in ("d", "undone", "e"):
            parts.begin()
            records.append(tx, draft(word))
            if word == "undone":
                parts.undo()
    with database.read() as tx:
        assert [(stored.seq, stored.subject) for stored in records.walk(tx)] == list(enumerate("abcde", 1))
        assert tree.root(tx, 5) == plain_root(database, 5)


def test_a_node_that_was_taken_away_is_missed(database: Database) -> None:
    append(database, "a", "b", "c", "d")
    second = leaves.c.number == 1
    with database.write() as tx:
        tx.execute(update(leaves).where(second).values(hashes=func.substr(leaves.c.hashes, 1, 32)))
    with database.read() as tx:
        assert len(tree.inclusion(tx, 0, 2)) == 1
        with pytest.raises(TreeIncomplete, match="node 0 at level 1"):
            tree.inclusion(tx, 3, 4)
    with database.write() as tx:
        tx.execute(delete(leaves).where(second))
    with database.read() as tx, pytest.raises(TreeIncomplete, match="node 1 at level 0"):
        tree.inclusion(tx, 0, 2)


def test_records_of_many_threads_are_joined_and_each_returns_when_its_own_is_durable(database: Database) -> None:
    log, start = GroupWrites(database), threading.Barrier(16)

    def write(index: int) -> list[tuple[int, str]]:
        start.wait()
        return [(log.run(record(word)), word) for word in (f"t{index}n{turn}" for turn in range(20))]

    with ThreadPoolExecutor(16) as pool:
        numbered = dict(pair for pairs in pool.map(write, range(16)) for pair in pairs)
    with database.read() as tx:
        assert {stored.seq: stored.subject for stored in records.walk(tx)} == numbered
        assert tree.root(tx, 320) == plain_root(database, 320)
    assert sorted(numbered) == list(range(1, 321))


def test_a_batch_that_fails_is_acknowledged_to_nobody_and_the_next_one_succeeds(tmp_path: Path) -> None:
    database = Database(tmp_path / "attest.db", busy_seconds=0.2)
    database.create()
    log = GroupWrites(database)
    with database.write(), ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(log.run, record("x")) for _ in range(4)]
        assert all(isinstance(item.exception(), StoreUnavailable) for item in waiting)
    assert log.run(record("y")) == 1


def test_a_record_that_cannot_be_built_is_its_writers_error(database: Database) -> None:
    log = GroupWrites(database)
    with pytest.raises(ZeroDivisionError):
        log.run(written(Draft(NOW, "test", "x", "ok", lambda _seq, _previous: bytes(1 // 0))))
    assert log.run(record("y")) == 1


def test_an_interrupted_leader_leaves_nobody_waiting(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    log = GroupWrites(database)

    def interrupt(_seq: int, _previous: bytes) -> bytes:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        log.run(written(Draft(NOW, "test", "x", "ok", interrupt)))
    assert log.run(record("y")) == 1
    with database.read() as tx:
        assert tx.execute(select(leaves.c.number)).scalars().all() == [0]


def test_writers_who_come_back_are_written_together_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    whole = group._write
    monkeypatch.setattr(group, "_write", lambda tx, batch: (sizes.append(len(batch)), whole(tx, batch)))
    monkeypatch.setattr(group, "_LONGEST", 1.0)
    monkeypatch.setattr(group, "_PATIENCE", 1000.0)
    log, start = GroupWrites(database), threading.Barrier(4)

    def write(index: int) -> None:
        start.wait()
        for turn in range(6):
            log.run(record(f"t{index}n{turn}"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert 4 in sizes[:4]
    assert sum(sizes) == 24
    assert len(sizes) <= 12  # one by one there would be 24


def test_one_writer_never_waits_for_others(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "_LONGEST", 100.0)
    monkeypatch.setattr(group, "_PATIENCE", 1e9)
    log = GroupWrites(database)
    assert [log.run(record("x")) for _ in range(3)] == [1, 2, 3]


def test_a_leader_s_patience_with_those_who_do_not_come_back_ends(database: Database) -> None:
    log, start = GroupWrites(database), threading.Barrier(4)

    def write(index: int) -> int:
        start.wait()
        return log.run(record(f"t{index}"))

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(write, range(4))) == [1, 2, 3, 4]
    assert log.run(record("alone")) == 5
