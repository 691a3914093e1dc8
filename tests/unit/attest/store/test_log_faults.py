"""Nothing that was acknowledged is lost and nothing that was not is half there: killed anywhere, disk full, torn files."""

from __future__ import annotations

import json
import os
import platform
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from attest.audit.checkpoint import checkpoint_of
from attest.audit.merkle import Frontier, leaf_hash
from attest.audit.record import Actor, Event
from attest.broker.errors import ServiceMisconfigured
from attest.broker.log import checkpoint
from attest.broker.trail import append
from attest.broker.verify_trail import verify_trail
from attest.store import checkpoints, records, tree
from attest.store.engine import Database
from attest.store.errors import StoreUnavailable
from attest.store.group import GroupWrites
from tests.fakes.killed import NOW, database_of, prepare, signer_of


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, dict[str, Any]]]:
    """For every write of two batches and two checkpoints: what was left when the process was killed before it."""
    if platform.machine() != "x86_64":
        pytest.skip("system calls are counted on x86_64 only")
    base = tmp_path_factory.mktemp("killed")
    done = subprocess.run(
        [sys.executable, "-m", "tests.fakes.killed", str(base)], capture_output=True, check=True, timeout=600
    )
    return [(base / str(item["write"]), item) for item in map(json.loads, done.stdout.splitlines())]


def record(subject: str = "x") -> Callable[[Connection], int]:
    return partial(append, event=Event(NOW, "test", subject, "ok", Actor("guest")))


def check_whole(database: Database) -> int:
    """Records, tree and chain say the same; returns their number."""
    found = verify_trail(database).records
    frontier = Frontier()
    with database.read() as tx:
        for stored in records.walk(tx):
            frontier.push(leaf_hash(stored.record))
        assert tree.root(tx, found) == frontier.root()
        assert not tree.has_leaf(tx, found)
    return found


def test_the_kills_cover_database_log_file_and_signed_checkpoint(killed: list[tuple[Path, dict[str, Any]]]) -> None:
    assert {item["call"] for _, item in killed} >= {"pwrite", "fdatasync", "fsync", "rename", None}
    assert len(killed) > 50


def test_killed_before_any_write_a_log_keeps_what_it_acknowledged_and_goes_on(
    killed: list[tuple[Path, dict[str, Any]]],
) -> None:
    for folder, item in killed:
        database = database_of(folder)
        acknowledged = [int(word) for word in item["acknowledged"] if word != "signed"]
        found = check_whole(database)
        assert acknowledged == list(range(1, len(acknowledged) + 1)), item
        assert len(acknowledged) <= found <= len(acknowledged) + 1, item  # the one in flight: wholly there or not
        assert GroupWrites(database).run(record()) == found + 1, item
        note = checkpoint(database, signer_of(folder), NOW)
        assert checkpoint_of(note).size == found + 1
        database.close()


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """Files cannot grow beyond ``limit`` bytes."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_acknowledges_nothing_and_the_log_goes_on_when_there_is_room(tmp_path: Path) -> None:
    prepare(tmp_path / "log")
    database = database_of(tmp_path / "log")
    log, done = GroupWrites(database), 0
    largest = max(path.stat().st_size for path in (tmp_path / "log").iterdir())
    with full_disk(largest + 64 * 1024), pytest.raises(StoreUnavailable, match=r"full|disk I/O"):
        for _ in range(1000):
            done = log.run(record("x" * 200))
    assert done > 0
    assert check_whole(database) == done
    assert log.run(record()) == done + 1
    check_whole(database)


def test_a_checkpoint_that_cannot_be_remembered_is_not_signed(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    prepare(folder)
    database, signer = database_of(folder), signer_of(folder)
    GroupWrites(database).run(record())
    (folder / "log.seen").mkdir()
    with pytest.raises(ServiceMisconfigured, match=r"log\.seen"):
        checkpoint(database, signer, NOW)
    os.rmdir(folder / "log.seen")
    with database.read() as tx:
        assert checkpoints.newest(tx) is None
    assert checkpoint_of(checkpoint(database, signer, NOW)).size == 1
