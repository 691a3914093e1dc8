"""The API's description and the route tables say the same, and generated requests find nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from attest.web.admin import ADMIN_ROUTES
from attest.web.guest import GUEST_ROUTES
from attest.web.principals import Who
from tests.fakes.service_world import ServiceWorld

FILE = Path(__file__).parents[4] / "docs" / "openapi.json"
DOCUMENT: dict[str, Any] = json.loads(FILE.read_text())
SECURITY = {
    Who.ANYONE: [],
    Who.SESSION: [{"session": []}],
    Who.GUEST: [{"session": []}, {"token": []}],
    Who.AUDITOR: [{"auditor": []}, {"operator": []}, {"oidc": []}],
    Who.OPERATOR: [{"operator": []}, {"oidc": []}],
}


def described() -> dict[tuple[str, str, str], dict[str, Any]]:
    """Operations by listener, method and path."""
    return {
        (listener, method.upper(), path): operation
        for path, operations in DOCUMENT["paths"].items()
        for method, operation in operations.items()
        for listener in operation["tags"]
    }


def served() -> dict[tuple[str, str, str], Any]:
    tables = {"guests": GUEST_ROUTES, "operators": ADMIN_ROUTES}
    return {
        (listener, route.method, re.sub(r"<(?:path:)?(\w+)>", r"{\1}", route.path)): route
        for listener, routes in tables.items()
        for route in routes
    }


def test_every_route_is_described_and_nothing_else() -> None:
    assert set(described()) == set(served())


def test_the_description_says_who_may_use_a_route_and_whether_it_takes_a_body() -> None:
    for key, route in served().items():
        operation = described()[key]
        if len(operation["tags"]) == 1:
            assert operation["security"] == SECURITY[route.who], key
        assert operation.get("x-cvm-duty") == route.duty, key
        assert ("requestBody" in operation) == bool(route.max_body), key
        assert ("413" in operation["responses"]) == bool(route.max_body), key
        if key[0] == "operators":
            query = [entry["name"] for entry in operation.get("parameters", ()) if entry["in"] == "query"]
            assert query == list(route.query), key
        names = {entry["name"] for entry in operation.get("parameters", ()) if entry["in"] == "path"}
        assert names == set(re.findall(r"{(\w+)}", key[2])), key


def part(listener: str) -> dict[str, Any]:
    """The description of one listener, as schemathesis takes it."""
    paths = {
        path: {method: operation for method, operation in operations.items() if listener in operation["tags"]}
        for path, operations in DOCUMENT["paths"].items()
    }
    return {**DOCUMENT, "paths": {path: operations for path, operations in paths.items() if operations}}


@pytest.mark.parametrize("listener", ["guests", "operators"])
def test_generated_requests_are_answered_as_described(tmp_path: Path, listener: str) -> None:
    """Schemathesis: valid and invalid requests for every operation; no 500, no answer the description lacks."""
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis import GenerationMode
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    world = ServiceWorld(tmp_path / "service", issuer="https://kbs.test")
    app = world.guest_app() if listener == "guests" else world.admin_app()
    schema = schemathesis.openapi.from_dict(part(listener))
    schema.app = app
    schema.config.update(base_url="http://kbs.test")
    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    tried = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(
                max_examples=25,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def one(case: Any) -> None:
                nonlocal tried
                tried += 1
                case.call_and_validate(checks=checks)

            try:
                one()
            except Exception as exc:
                if type(exc).__name__ not in ("Unsatisfiable", "SkipTest"):  # nothing invalid can be made of no input
                    raise
    assert tried > 100
