"""Fixtures every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.fakes.postgres import PostgresServer

# A property is about values; how long an example takes says how busy the machine is.
settings.register_profile("cvm", deadline=None)
settings.load_profile("cvm")

ROOT = Path(__file__).resolve().parent.parent


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
