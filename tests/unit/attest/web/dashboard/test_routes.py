"""Every route of the dashboard, found by iteration: what it answers, with which headers, and to which methods."""

from __future__ import annotations

from html.parser import HTMLParser
from importlib.resources import files

import pytest
from flask import Flask
from flask.testing import FlaskClient

from attest.keys.authority import make_authority
from attest.keys.client_crl import ClientAuthority
from attest.web.dashboard.app import HEADERS, create_dashboard
from attest.web.dashboard.pages import PAGES
from attest.web.dashboard.visitors import Visitors
from tests.fakes.service_world import ServiceWorld

from .conftest import Get, number_of

METHODS = ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND")


def every_path(app: Flask, world: ServiceWorld, data: Get) -> list[str]:
    """Each rule of the application's map with arguments that exist."""
    numbers = {
        "/decisions/": number_of(world, "decision", "affirming"),
        "/policies/": number_of(world, "policy-apply", "in force"),
        "/references/": 2,
        "/records/": 1,
    }
    chip, found = data("/fleet.json")["chips"][0]["chip"], []
    for rule in app.url_map.iter_rules():
        path = rule.rule.replace("<chip>", chip).replace("<family>", "iso-27001")
        start = path.partition("<")[0]
        path = path.replace("<int:number>", str(numbers.get(start, 1)))
        found.append(path + ("?name=shop-1" if path.removesuffix(".json") == "/vm" else ""))
    assert len(found) > 2 * len(PAGES)
    return found


def test_every_route_answers_with_every_security_header(
    app: Flask, client: FlaskClient, world: ServiceWorld, data: Get
) -> None:
    for path in [*every_path(app, world, data), "/nothing-here", "/nothing.json", "/decisions/99999"]:
        answer = client.get(path)
        assert answer.status_code == (404 if "nothing" in path or "99999" in path else 200), path
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, (path, name)
        assert "Set-Cookie" not in answer.headers, path


def test_the_content_security_policy_allows_nothing_but_our_own_style_and_images() -> None:
    rules = dict(rule.strip().split(" ", 1) for rule in HEADERS["Content-Security-Policy"].split(";"))
    assert rules.pop("default-src") == "'none'"
    assert rules == {
        "style-src": "'self'",
        "img-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }


@pytest.mark.parametrize("method", METHODS)
def test_no_route_answers_anything_but_get_and_head(
    app: Flask, client: FlaskClient, world: ServiceWorld, data: Get, method: str
) -> None:
    for path in every_path(app, world, data):
        answer = client.open(path, method=method, headers={"X-HTTP-Method-Override": "GET"}, data=b"a=b")
        assert answer.status_code == 405, path


def test_no_rule_of_the_map_names_another_method(app: Flask) -> None:
    assert {method for rule in app.url_map.iter_rules() for method in rule.methods or ()} == {"GET", "HEAD"}


def test_every_page_has_a_twin_with_its_schema_and_links_to_it(
    app: Flask, client: FlaskClient, world: ServiceWorld, data: Get
) -> None:
    twins = [path for path in every_path(app, world, data) if path.partition("?")[0].endswith(".json")]
    assert {data(path)["schema"] for path in twins} == {page.schema for page in PAGES}
    for path in twins:
        page = client.get(path.replace(".json", "", 1)).get_data(as_text=True)
        assert f'<link rel="alternate" type="application/json" href="{path}">' in page, path


class _Found(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def test_no_page_has_a_script_an_inline_style_a_handler_or_a_link_elsewhere(
    app: Flask, client: FlaskClient, world: ServiceWorld, data: Get
) -> None:
    for path in every_path(app, world, data):
        answer = client.get(path)
        if answer.mimetype != "text/html":
            continue
        found = _Found()
        found.feed(answer.get_data(as_text=True))
        assert not {"script", "style", "iframe", "object", "embed", "form", "base"} & set(found.tags), path
        for name, value in found.attributes:
            assert name != "style" and not name.startswith("on"), (path, name)
            assert name not in ("href", "src") or (value or "").startswith(("/", "?", "#")), (path, value)
            assert not (value or "").startswith("//"), (path, value)


def test_another_host_name_is_refused_without_a_log_in(app: Flask) -> None:
    for host, status in (("127.0.0.1:8444", 200), ("localhost", 200), ("[::1]:8444", 200), ("evil.example", 403)):
        assert app.test_client().get("/overview", headers={"Host": host}).status_code == status, host


def test_without_a_certificate_nothing_is_shown(world: ServiceWorld, app: Flask, data: Get) -> None:
    from tests.fakes.dashboard_world import house_of

    closed = create_dashboard(house_of(world), Visitors.of(*_authorities(world)))
    for path in every_path(app, world, data):
        answer = closed.test_client().get(path, headers={"Host": "127.0.0.1"})
        assert answer.status_code == 403, path
        assert answer.headers["Strict-Transport-Security"]
        assert "shop-1" not in answer.get_data(as_text=True)


def _authorities(world: ServiceWorld) -> tuple[ClientAuthority, None]:
    path = world.folder / "operator-ca.pem"
    path.write_bytes(make_authority("cvm operator CA", world.now).certificate_pem())
    return ClientAuthority(path), None


def test_the_style_sheet_and_the_icon_load_nothing_from_elsewhere() -> None:
    folder = files("attest.web.dashboard") / "static"
    style = (folder / "style.css").read_text()
    assert "url(" not in style
    assert "@import" not in style
    assert "@media print" in style
    assert "prefers-color-scheme: dark" in style
    assert "<script" not in (folder / "icon.svg").read_text()
