"""Fixtures every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest
from hypothesis import settings

from attest.store.engine import Database
from tests.fakes.postgres import PostgresServer

# A property is about values; how long an example takes says how busy the machine is.
settings.register_profile("cvm", deadline=None)
settings.load_profile("cvm")

ROOT = Path(__file__).resolve().parent.parent
_databases: WeakSet[Database] = WeakSet()


@pytest.fixture(scope="session", autouse=True)
def _databases_are_noted() -> Iterator[None]:
    make = Database.__init__

    def note(self: Database, *words: Any, **options: Any) -> None:
        make(self, *words, **options)
        _databases.add(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "__init__", note)
        yield


@pytest.fixture(autouse=True)
def _databases_are_closed() -> Iterator[None]:
    """After each test: thousands of tests leave thousands, and ``select`` takes no descriptor beyond 1,023. One that is
    used again opens itself.
    """
    yield
    for database in list(_databases):
        database.close()


@pytest.fixture(scope="session")
def repo() -> Path:
    """The checkout under test."""
    return ROOT


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of real reports, certificates and digests; tests that need it skip where it is missing."""
    folder = Path(os.environ.get("CVM_VECTORS", ROOT.parent / "shared" / "vectors"))
    if not (folder / "snp" / "manifest.json").is_file():
        pytest.skip(f"no vectors in {folder}: set CVM_VECTORS to the folder that holds snp/manifest.json")
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running PostgreSQL server; tests that need it skip where the package is missing."""
    server = PostgresServer()
    yield server
    server.remove()


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest) -> str | None:
    """The address of a new PostgreSQL database; ``None`` for a test that makes its SQLite file itself."""
    if request.param == "sqlite":
        return None
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()
