"""Bringing a database's tables to this program's revision, whole or not at all.

All revisions run in one writing transaction, so of several replicas that upgrade at once one does it and the others
find it done: SQLite's write lock, PostgreSQL's advisory lock. Of a SQLite file a copy is made inside that transaction,
before anything changes; of a PostgreSQL database the administrator makes one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select, update

from attest.store import migrations
from attest.store.engine import Database
from attest.store.errors import StoreUnsupported
from attest.store.schema import REVISION, settings, versions

_FOLDER = Path(migrations.__file__).parent
_BEFORE_MIGRATIONS = {"3": "0003_baseline"}


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """``found`` is the database's revision, ``wanted`` this program's, ``pending`` what an upgrade runs, in order."""

    found: str
    wanted: str
    pending: tuple[str, ...]


def status(database: Database) -> SchemaStatus:
    """How far behind the database is. Raises StoreUnsupported for one that is newer, or too old for any upgrade."""
    found = database.revision()
    if found in _BEFORE_MIGRATIONS:  # the first step only writes down which revision it is
        return SchemaStatus(found, REVISION, (_BEFORE_MIGRATIONS[found], *_after(database, _BEFORE_MIGRATIONS[found])))
    return SchemaStatus(found, REVISION, _after(database, found))


def upgrade(database: Database) -> tuple[SchemaStatus, Path | None]:
    """Run what is pending; returns what it was and the copy of the SQLite file. Nothing pending changes nothing."""
    if not (before := status(database)).pending:
        return before, None
    with database.write() as tx:
        found = _revision(tx)
        if found == REVISION:  # another replica was faster
            return before, None
        copy = database.copy_aside(f"before-{REVISION}")
        _run(tx, found)
        tx.execute(update(settings).where(settings.c.name == "schema").values(value=REVISION))
    database.check()
    return before, copy


def revisions() -> tuple[str, ...]:
    """Every revision this program knows, oldest first."""
    scripts = ScriptDirectory(str(_FOLDER))
    return tuple(reversed([script.revision for script in scripts.walk_revisions()]))


def _after(database: Database, found: str) -> tuple[str, ...]:
    known = revisions()
    if found in known:
        return known[known.index(found) + 1 :]
    if found.isdigit():
        raise StoreUnsupported(
            f"database {database}: schema {found} is older than any this program can upgrade, want 3"
        )
    raise StoreUnsupported(
        f"database {database}: made by a newer program, revision {found}, this one knows up to {REVISION}",
        hint="install the newer program again, or restore the copy made before the upgrade",
    )


def _revision(tx: Connection) -> str | None:
    return tx.scalar(select(versions.c.version_num)) if inspect(tx).has_table(versions.name) else None


def _run(tx: Connection, found: str | None) -> None:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = tx
    if found is None:
        command.stamp(config, _BEFORE_MIGRATIONS["3"])
    command.upgrade(config, "head")
