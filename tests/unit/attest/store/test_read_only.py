"""A database opened for reading cannot be written to, by whatever way it is asked."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from attest.store import checkpoints, records, secrets
from attest.store.engine import Database
from attest.store.errors import StoreUnavailable
from attest.web.dashboard.pages import PAGES
from tests.fakes.dashboard_world import pages_over
from tests.fakes.service_world import ServiceWorld

WRITES = (
    "INSERT INTO settings (name, value) VALUES ('x', 'y')",
    "UPDATE settings SET value = '7'",
    "DELETE FROM audit",
    "DROP TABLE audit",
    "CREATE TABLE mine (x INTEGER)",
)


@pytest.fixture
def world(tmp_path: Path, store: str | None) -> ServiceWorld:
    return ServiceWorld(tmp_path / "service", store=store)


@pytest.fixture
def reader(world: ServiceWorld) -> Iterator[Database]:
    database = Database(world.store or world.folder / "attest.db", read_only=True)
    yield database
    database.close()


def test_it_reads(reader: Database) -> None:
    reader.check()
    with reader.read() as tx:
        assert checkpoints.size_of_log(tx) == len(records.newest(tx)) > 0


@pytest.mark.parametrize("statement", WRITES)
@pytest.mark.parametrize("way", ["read", "write"])
def test_no_statement_writes(world: ServiceWorld, reader: Database, statement: str, way: str) -> None:
    before = world.records()
    with pytest.raises(StoreUnavailable), getattr(reader, way)() as tx:
        tx.execute(text(statement))
    assert world.records() == before


def test_stored_keys_and_sessions_are_not_even_seen_in_a_sqlite_file(tmp_path: Path) -> None:
    world = ServiceWorld(tmp_path / "service")
    reader = Database(world.folder / "attest.db", read_only=True)
    with world.database.read() as tx:
        assert secrets.entries(tx)
    for query in ("SELECT ciphertext FROM secrets", "SELECT count(path) FROM secrets", "SELECT nonce FROM sessions"):
        with pytest.raises(StoreUnavailable, match=r"prohibited|not authorized"), reader.read() as tx:
            tx.execute(text(query))


def test_a_reader_cannot_make_itself_a_writer(tmp_path: Path) -> None:
    world = ServiceWorld(tmp_path / "service")
    reader = Database(world.folder / "attest.db", read_only=True)
    for statement in ("PRAGMA query_only = OFF", "ATTACH DATABASE ':memory:' AS other"):
        with pytest.raises(StoreUnavailable), reader.read() as tx:
            tx.exec_driver_sql(statement)


def test_the_file_itself_is_open_for_reading_only(tmp_path: Path) -> None:
    """Without the authorizer and the pragma, SQLite's own mode still refuses."""
    world = ServiceWorld(tmp_path / "service")
    reader = Database(world.folder / "attest.db", read_only=True)
    with pytest.raises(StoreUnavailable, match="readonly"), reader.read() as tx:
        raw = tx.connection.dbapi_connection
        assert isinstance(raw, sqlite3.Connection)
        raw.set_authorizer(None)
        raw.execute("PRAGMA query_only = OFF")
        tx.execute(text("UPDATE settings SET value = '7'"))


def test_a_postgresql_role_that_may_only_read_stays_one(world: ServiceWorld) -> None:
    if world.store is None:
        pytest.skip("SQLite has no roles")
    with world.database.write() as tx:
        tx.execute(text("DROP ROLE IF EXISTS auditor"))
        tx.execute(text("CREATE ROLE auditor"))
        for table in ("settings", "audit", "blobs"):
            tx.execute(text(f"GRANT SELECT ON {table} TO auditor"))
    reader = Database(world.store, read_only=True)
    with reader.read() as tx:
        tx.execute(text("SET ROLE auditor"))
        assert checkpoints.size_of_log(tx) > 0
    for statement in ("SELECT ciphertext FROM secrets", "UPDATE settings SET value = '7'"):
        with pytest.raises(StoreUnavailable, match=r"permission denied|read-only"), reader.read() as tx:
            tx.execute(text("SET ROLE auditor"))
            tx.execute(text(statement))
    reader.close()
    with world.database.write() as tx:
        tx.execute(text("DROP OWNED BY auditor"))
        tx.execute(text("DROP ROLE auditor"))


def test_the_role_of_the_operators_guide_is_enough_for_every_page(world: ServiceWorld, repo: Path) -> None:
    if world.store is None:
        pytest.skip("SQLite has no roles")
    guide = (repo / "docs" / "operator.md").read_text()
    grant = next(line.strip() for line in guide.splitlines() if "GRANT SELECT ON" in line).rstrip(";")
    with world.database.write() as tx:
        tx.execute(text("DROP ROLE IF EXISTS reader"))
        tx.execute(text("CREATE ROLE reader LOGIN"))
        tx.execute(text(grant))
        name = tx.scalar(text("SELECT current_database()"))
        tx.execute(text(f'ALTER DATABASE "{name}" SET role = reader'))  # of connections made from now on
    client = pages_over(world).test_client()
    for page in PAGES:
        if "<" not in page.path and page.name != "vm":
            assert client.get(page.path, headers={"Host": "localhost"}).status_code == 200, page.path
    with world.database.write() as tx:
        tx.execute(text(f'ALTER DATABASE "{name}" RESET role'))
        tx.execute(text("DROP OWNED BY reader"))
        tx.execute(text("DROP ROLE reader"))
