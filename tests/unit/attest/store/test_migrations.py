"""The tables: those a new database gets and those migrations make are the same, and an upgrade happens once, whole."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import stat
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, Table, create_engine, insert, inspect, text

from attest.audit.facts import Facts
from attest.audit.merkle import Frontier, leaf_hash, verify_inclusion
from attest.store import launches, migrate, records, rules, tree
from attest.store.engine import Database
from attest.store.errors import StoreUnavailable, StoreUnsupported, TreeIncomplete
from attest.store.postgres import database_url
from attest.store.schema import REVISION, metadata

GOLDEN = Path(__file__).resolve().parents[3] / "golden" / "database"


@pytest.fixture
def old(store: str | None, tmp_path: Path) -> Database:
    """A database as the program made it before there were migrations, from the statements it used."""
    path, kind = tmp_path / "old.db", "sqlite" if store is None else "postgresql"
    engine = create_engine(f"sqlite:///{path}" if store is None else database_url(store))
    with engine.begin() as tx:
        for statement in (GOLDEN / f"schema3-{kind}.sql").read_text().split(";\n\n"):
            tx.execute(text(statement.strip().rstrip(";")))
    engine.dispose()
    return Database(store or path)


def tables(tx: Connection) -> dict[str, Any]:
    """Everything that is in the database but rows; columns by name, for an added column stands last."""
    found = inspect(tx)
    described: dict[str, Any] = {}
    for name in sorted(found.get_table_names()):
        columns = {
            column["name"]: (repr(column["type"]), column["nullable"], column["default"])
            for column in found.get_columns(name)
        }
        unique = sorted(sorted(entry["column_names"]) for entry in found.get_unique_constraints(name))
        checks = sorted((entry["name"], entry["sqltext"]) for entry in found.get_check_constraints(name))
        foreign = sorted(
            (entry["constrained_columns"], entry["referred_table"], entry["referred_columns"])
            for entry in found.get_foreign_keys(name)
        )
        indexes = sorted(
            (str(entry["name"]), entry["column_names"], entry["unique"])
            for entry in found.get_indexes(name)
            if "duplicates_constraint" not in entry
        )
        key = found.get_pk_constraint(name)["constrained_columns"]
        described[name] = (columns, key, unique, checks, foreign, indexes, found.get_table_options(name))
    return described


def test_an_upgraded_database_has_the_tables_a_new_one_has(old: Database, store: str | None, tmp_path: Path) -> None:
    migrate.upgrade(old)
    new = Database(_another(store) or tmp_path / "new.db")
    new.create()
    with old.read() as upgraded, new.read() as made:
        assert tables(upgraded) == tables(made)
        context = MigrationContext.configure(upgraded, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def _another(store: str | None) -> str | None:
    """A second database of the same server."""
    if store is None:
        return None
    engine = create_engine(database_url(store), isolation_level="AUTOCOMMIT")
    name = f"{database_url(store).database}_new"
    with engine.connect() as tx:
        tx.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return re.sub(r"/test\d+", f"/{name}", store)


def test_revisions_are_numbered_in_order_and_the_program_names_the_newest() -> None:
    found = migrate.revisions()
    assert [int(name.partition("_")[0]) for name in found] == list(range(3, 3 + len(found)))
    assert found[-1] == REVISION
    files = {path.stem for path in Path(migrate.__file__).parent.glob("migrations/versions/m*.py")}
    assert files == {f"m{name}" for name in found}


def test_a_database_from_before_migrations_is_refused_with_what_to_do_then_upgraded_with_its_rows(
    old: Database,
) -> None:
    with pytest.raises(StoreUnsupported, match="revision 3, want") as refused:
        old.check()
    assert "attest db upgrade" in str(refused.value.hint)
    assert migrate.status(old).pending == migrate.revisions()
    before, _ = migrate.upgrade(old)
    assert before.found == "3"
    old.check()
    assert migrate.status(old).pending == ()
    with old.read() as tx:
        assert rules.generation(tx) == 7


def test_an_upgraded_database_is_refused_by_programs_from_before_migrations(old: Database) -> None:
    """They look at one row only."""
    migrate.upgrade(old)
    with old.read() as tx:
        assert tx.scalar(text("SELECT value FROM settings WHERE name = 'schema'")) == REVISION


def test_upgrading_twice_does_nothing(old: Database) -> None:
    migrate.upgrade(old)
    before, copy = migrate.upgrade(old)
    assert (before.found, before.pending, copy) == (REVISION, (), None)


def test_of_replicas_that_upgrade_at_once_one_does_it_and_all_succeed(old: Database, store: str | None) -> None:
    replicas = [Database(store or old.path, busy_seconds=20) for _ in range(4)]  # type: ignore[arg-type]
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(migrate.upgrade, replicas))
    old.check()
    copies = [copy for _, copy in done if copy is not None]
    assert len(copies) == (1 if store is None else 0)


@pytest.mark.parametrize(("revision", "words"), [("0999_from_tomorrow", "newer program"), ("2", "older than any")])
def test_a_database_no_upgrade_helps_is_refused(old: Database, revision: str, words: str) -> None:
    migrate.upgrade(old)
    with old.write() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = :it"), {"it": revision})
    with pytest.raises(StoreUnsupported, match=re.escape(revision)):
        old.check()
    for act in (migrate.status, migrate.upgrade):
        with pytest.raises(StoreUnsupported, match=words):
            act(old)


def test_an_upgrade_that_fails_half_way_leaves_the_tables_as_they_were(
    old: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with old.read() as tx:
        before = tables(tx)
    run = migrate._run

    def fail(tx: Connection, found: str | None) -> None:
        run(tx, found)
        tx.execute(text("CREATE TABLE half_of_it (id INTEGER)"))
        raise StoreUnavailable("power failed")

    monkeypatch.setattr(migrate, "_run", fail)
    with pytest.raises(StoreUnavailable):
        migrate.upgrade(old)
    with old.read() as tx:
        assert tables(tx) == before
    assert old.revision() == "3"


def test_the_copy_of_a_sqlite_file_is_the_database_before_and_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as tx:
        tx.executescript((GOLDEN / "schema3-sqlite.sql").read_text())
    _, copy = migrate.upgrade(Database(path))
    assert copy == tmp_path / f"old.db.before-{REVISION}"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert Database(copy).revision() == "3"


def test_a_copy_that_is_there_already_is_not_overwritten_and_nothing_is_upgraded(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as tx:
        tx.executescript((GOLDEN / "schema3-sqlite.sql").read_text())
    (tmp_path / f"old.db.before-{REVISION}").write_text("precious")
    with pytest.raises(StoreUnsupported, match="exists already"):
        migrate.upgrade(Database(path))
    assert Database(path).revision() == "3"


def test_records_of_before_are_found_by_what_they_say(old: Database) -> None:
    bodies = {
        "decision": {"claims": {"chip_id": "c1" * 64, "measurement": "11" * 48}},
        "reference-add": {"launch_digest": "22" * 48},
        "release": {"decision": 1},
    }
    with old.write() as tx:
        for seq, (kind, body) in enumerate(bodies.items(), 1):
            row = {"seq": seq, "time": 0, "kind": kind, "subject": "web-1", "outcome": "ok", "sha256": bytes(32)}
            table = Table("audit", MetaData(), autoload_with=tx)
            tx.execute(insert(table).values(**row, record=json.dumps({"body": body}).encode()))
    migrate.upgrade(old)
    with old.read() as tx:
        assert [entry.facts for entry in records.walk(tx)] == [
            Facts("c1" * 64, "11" * 48, None), Facts(None, "22" * 48, "web-1"), Facts()
        ]  # fmt: skip


def test_the_tree_of_before_proves_what_it_proved_and_what_it_lacked_is_lacking_still(old: Database) -> None:
    size, edge, nodes = 4200, Frontier(), []
    for number in range(size):
        nodes += edge.push(leaf_hash(number.to_bytes(2, "big")))
    rows = [{"level": level, "number": number, "hash": value} for level, number, value in nodes]
    with old.write() as tx:
        table = Table("tree", MetaData(), autoload_with=tx)
        tx.execute(insert(table), [row for row in rows if (row["level"], row["number"]) != (3, 2)])
    migrate.upgrade(old)
    with old.read() as tx:
        assert tree.root(tx, size) == edge.root()
        for index in (0, 17, 4095, 4096, size - 1):
            leaf = leaf_hash(index.to_bytes(2, "big"))
            verify_inclusion(leaf, index, size, tree.inclusion(tx, index, size), edge.root())
        with pytest.raises(TreeIncomplete, match="node 2 at level 3"):
            tree.inclusion(tx, 24, size)


def test_launches_on_record_are_known_again_and_one_that_is_there_twice_by_its_first_record(old: Database) -> None:
    statement = b'{"vm":"web-1"}'
    envelope = json.dumps({"payload": b64encode(statement).decode()}).encode()
    body = {"key_id": "aa" * 32, "envelope": hashlib.sha256(envelope).hexdigest(), "host": "h1", "vm": "web-1"}
    body |= {"measurement": "11" * 48, "time": "1970-01-01T00:00:01Z"}
    with old.write() as tx:
        tables_of_old = MetaData()
        audit, blobs = (Table(name, tables_of_old, autoload_with=tx) for name in ("audit", "blobs"))
        tx.execute(insert(blobs).values(sha256=hashlib.sha256(envelope).digest(), data=envelope))
        for seq in (1, 2):
            row = {"seq": seq, "time": 5_000_000, "kind": "launch", "subject": "web-1", "outcome": "launched"}
            record = json.dumps({"body": body}).encode()
            tx.execute(insert(audit).values(**row, sha256=bytes(32), record=record))
    migrate.upgrade(old)
    with old.read() as tx:
        assert launches.record_of(tx, "aa" * 32, hashlib.sha256(statement).hexdigest()) == 1
        counted = [launches.count(tx, "11" * 48, datetime.fromtimestamp(second, UTC)) for second in (1, 2)]
    assert counted == [1, 0]
