"""One furnished service for all tests of the pages; none of them can change it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.fakes.dashboard_world import furnish, pages_over
from tests.fakes.service_world import ServiceWorld

Get = Callable[[str], Any]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> ServiceWorld:
    """The service."""
    return furnish(tmp_path_factory.mktemp("dashboard") / "service")


@pytest.fixture(scope="session")
def app(world: ServiceWorld) -> Flask:
    """The dashboard over it."""
    return pages_over(world)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A visitor on the machine itself."""
    client = app.test_client()
    client.environ_base["HTTP_HOST"] = "127.0.0.1:8444"
    return client


@pytest.fixture
def data(client: FlaskClient) -> Get:
    """The JSON twin of a page."""

    def get(path: str) -> Any:
        answer = client.get(path)
        assert answer.status_code == 200, answer.get_data(as_text=True)
        return answer.json

    return get


def number_of(world: ServiceWorld, kind: str, outcome: str) -> int:
    """The newest record of that kind and outcome."""
    return max(item["number"] for item in world.records() if (item["kind"], item["outcome"]) == (kind, outcome))
