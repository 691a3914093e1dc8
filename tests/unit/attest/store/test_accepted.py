"""Accepted decisions are found by an index of their own, however many of others and refused ones are around them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from sqlalchemy import Connection, insert

from attest.store import records
from attest.store.engine import Database
from attest.store.prepared import driver
from attest.store.schema import audit
from attest.store.times import to_micros
from tests.fakes.amd_pki import NOW

GOOD, OTHER = "11" * 48, "22" * 48
MANY = 3000


def filled(found: Database) -> Database:
    """A decision a minute: 2 and 4 of the measurement were accepted and no later ones, of others every second was."""
    found.create()
    turns = ("affirming", OTHER), ("contraindicated", GOOD)
    known = {2: ("affirming", GOOD), 4: ("affirming", GOOD)}
    with found.write() as tx:
        rows = [_row(seq, *known.get(seq, turns[seq % 2])) for seq in range(1, MANY + 1)]
        tx.execute(insert(audit), [dict(zip(audit.c.keys(), row, strict=True)) for row in rows])
    return found


def _row(seq: int, outcome: str, measurement: str) -> tuple[object, ...]:
    time = to_micros(NOW + timedelta(minutes=seq))
    return (seq, time, "decision", "x", outcome, b"", bytes(32), None, measurement, None, None)


def test_the_newest_and_the_first_since_a_moment(store: str | None, tmp_path: Path) -> None:
    with filled(Database(store or tmp_path / "attest.db")).read() as tx:
        newest = [records.newest_accepted(tx, digest) for digest in (GOOD, OTHER, "33" * 48)]
        assert [found and found.seq for found in newest] == [4, MANY, None]
        moments = [NOW + timedelta(minutes=minute) for minute in (0, 2, 3, 4, 5)]
        assert [records.first_accepted(tx, GOOD, moment, None) for moment in moments] == [2, 2, 4, 4, None]
        assert records.first_accepted(tx, GOOD, moments[0], moments[1]) is None


def test_no_others_are_looked_at(tmp_path: Path) -> None:
    with filled(Database(tmp_path / "attest.db")).read() as tx:
        steps = _counted(tx)
        records.newest_accepted(tx, GOOD)
        records.first_accepted(tx, GOOD, NOW + timedelta(minutes=5), None)
        assert len(steps) < MANY // 10


def _counted(tx: Connection) -> list[None]:
    """Grows by one for every ten instructions of SQLite's machine."""
    steps: list[None] = []
    driver(tx).set_progress_handler(lambda: steps.append(None), 10)
    return steps
