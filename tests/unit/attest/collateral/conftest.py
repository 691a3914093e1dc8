"""A key distribution service of our own for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.amd_pki import FakeAmdPki
from tests.fakes.kds import FakeKds

PKI = FakeAmdPki()


@pytest.fixture
def kds(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKds]:
    """Serves the usual Genoa chip; proxies of the environment stay out of the way."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FakeKds(PKI) as service:
        yield service
