"""A chip or measurement is found by the digits it begins with, and never another one that begins alike."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Connection

from attest.audit.facts import Facts
from attest.broker.abbreviated import completed, whole
from attest.broker.errors import RequestMalformed
from attest.store import records
from attest.store.engine import Database
from attest.store.records import Draft, Filter
from tests.fakes.amd_pki import NOW

FIRST, SECOND, LONGER = "aa" * 64, "aaaaaaaab" + "b" * 119, "cc" * 20
SHORTER = LONGER[:32]


@pytest.fixture
def database(store: str | None, tmp_path: Path) -> Database:
    found = Database(store or tmp_path / "attest.db", busy_seconds=20)
    found.create()
    with found.write() as tx:
        for chip in (None, FIRST, SECOND, FIRST, LONGER, SHORTER):
            add(tx, chip)
    return found


def add(tx: Connection, chip: str | None) -> None:
    records.append(tx, Draft(NOW, "test", "x", "ok", lambda *_: b"{}", Facts(chip, None if chip is None else "1" * 96)))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (FIRST, FIRST), (FIRST.upper(), FIRST), ("a" * 9, FIRST), ("aaaaaaaab…", SECOND),
        (SHORTER, SHORTER), (SHORTER + "c", LONGER), ("d" * 8, "d" * 8), ("a" * 127, FIRST),
    ],
)  # fmt: skip
def test_what_only_one_begins_with_is_that_one_and_what_none_does_stays(
    database: Database, text: str, found: str
) -> None:
    with database.read() as tx:
        assert whole(tx, "chip", text) == found


@pytest.mark.parametrize("text", ["a" * 8, "c" * 31])
def test_what_several_begin_with_is_refused_and_they_are_named(database: Database, text: str) -> None:
    with database.read() as tx, pytest.raises(RequestMalformed, match="want more digits") as refused:
        whole(tx, "chip", text)
    assert f"{(SHORTER if text[0] == 'c' else FIRST)}, " in refused.value.message


@pytest.mark.parametrize("text", ["", "a" * 7, "a" * 129, "web-1", "aaaaaaaa%", "…"])
def test_what_is_no_number_or_too_short_is_refused(database: Database, text: str) -> None:
    with database.read() as tx, pytest.raises(RequestMalformed, match="the first 8 at least"):
        whole(tx, "chip", text)


def test_a_filter_is_completed_and_what_it_leaves_out_stays_out(database: Database) -> None:
    with database.read() as tx:
        assert completed(tx, Filter(vm="web-1")) == Filter(vm="web-1")
        assert completed(tx, Filter(chip="a" * 9, measurement="1" * 8)) == Filter(chip=FIRST, measurement="1" * 96)


def test_looking_for_it_reads_the_index_alone(tmp_path: Path) -> None:
    found = Database(tmp_path / "attest.db")
    found.create()
    with found.write() as tx:
        plan = tx.exec_driver_sql(
            "EXPLAIN QUERY PLAN SELECT audit.chip FROM audit WHERE audit.chip > ? ORDER BY audit.chip LIMIT 1", ("a",)
        ).all()
    assert [step[3] for step in plan] == ["SEARCH audit USING COVERING INDEX audit_chip (chip>?)"]
