"""What guests and operators wrote is shown as what it is: no tag, no escape code, no turned text."""

from __future__ import annotations

import re

import pytest
from flask import render_template_string
from flask.app import Flask
from flask.testing import FlaskClient
from markupsafe import escape

from attest.web.dashboard import charts, picture
from attest.web.dashboard.render import visible
from tests.fakes.dashboard_world import HOSTILE, MARKUP
from tests.fakes.service_world import ServiceWorld

from .conftest import number_of

FORBIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
SHOWN = r"\x1b[2J\x1b]0;owned\x07<script>alert(1)</script>\u202egnp.exe\u2066"


def pages(client: FlaskClient, world: ServiceWorld) -> dict[str, str]:
    malformed = number_of(world, "decision", "malformed")
    denied = number_of(world, "decision", "contraindicated")
    paths = [
        "/", "/decisions", f"/decisions/{malformed}", f"/decisions/{denied}", "/records", f"/records/{malformed}",
        "/references", "/references/3", "/vm?name=shop-2",
    ]  # fmt: skip
    return {path: client.get(path).get_data(as_text=True) for path in paths}


def test_no_page_lets_anything_out(client: FlaskClient, world: ServiceWorld) -> None:
    for path, text in pages(client, world).items():
        assert not FORBIDDEN.search(text), path
        assert "<script" not in text.lower(), path
        assert "onerror=alert(2)>" not in text, path


def test_it_is_visible_as_escapes(client: FlaskClient, world: ServiceWorld) -> None:
    found = pages(client, world)
    malformed = number_of(world, "decision", "malformed")
    for path in ("/", f"/decisions/{malformed}", f"/records/{malformed}"):
        assert str(escape(SHOWN)) in found[path], path


def test_a_hostile_path_stays_text_in_the_picture_and_the_table(client: FlaskClient, world: ServiceWorld) -> None:
    denied = number_of(world, "decision", "contraindicated")
    text = client.get(f"/decisions/{denied}").get_data(as_text=True)
    assert str(escape(MARKUP)) in text
    assert "</title></text><script>" not in text


def test_a_query_is_not_shown_as_it_came(client: FlaskClient) -> None:
    for path in ("/vm", "/decisions", "/records"):
        text = client.get(path, query_string={"name": HOSTILE, "measurement": HOSTILE, "kind": HOSTILE}).text
        assert "<script" not in text
        assert not FORBIDDEN.search(text)


@pytest.mark.parametrize(
    "place", ["{{ x }}", '<a title="{{ x }}">', "{{ x|upper }}", "{% for c in [x] %}{{ c }}{% endfor %}"]
)
def test_no_template_can_forget(app: Flask, place: str) -> None:
    with app.test_request_context("/"):
        text = render_template_string(place, x=HOSTILE)
    assert not FORBIDDEN.search(text)
    assert "<script" not in text.lower()
    assert '"' not in text.removeprefix('<a title="').removesuffix('">')


def test_the_twin_holds_the_text_as_json_escapes(client: FlaskClient, world: ServiceWorld) -> None:
    answer = client.get(f"/decisions/{number_of(world, 'decision', 'malformed')}.json")
    assert answer.json is not None
    assert answer.json["summary"] == HOSTILE
    assert answer.get_data().isascii()
    assert answer.mimetype == "application/json"


def test_pictures_and_charts_escape_what_they_draw() -> None:
    item = {"label": HOSTILE, "name": HOSTILE, "expected": HOSTILE, "reported": HOSTILE + "x", "state": "differs"}
    launch = {"inputs": [item], "reported": "0" * 96, "expected": "1" * 96, "reference": HOSTILE, "text": HOSTILE}
    registers = [item | {"expected": "1" * 96, "reported": "0" * 96}]
    drawn = picture.launch_picture(launch | {"outcome": "explained"})
    drawn += picture.td_picture(launch | {"registers": registers, "outcome": "explained"})
    drawn += charts.bars_chart([{"label": HOSTILE, "count": 1}])
    assert "<script" not in drawn
    assert "<img" not in drawn
    assert not FORBIDDEN.search(drawn)


def test_what_is_printable_stays_as_it_is() -> None:
    assert visible("Größe 7 — ≠") == "Größe 7 — ≠"
    assert visible(None) == ""
