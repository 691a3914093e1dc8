"""Which row of a table a request finds, and what is read of it."""

from __future__ import annotations

import io
from typing import Any

import pytest

from attest.web.answers import json_response
from attest.web.principals import Who
from attest.web.problems import HttpRefused
from attest.web.requests import body_of, cookie_of, path_of, query_of, target_of
from attest.web.routes import Route
from attest.web.routing import Table

PATHS = (
    ("GET", "/tile/<path:tile>"),
    ("GET", "/tile/entries/<path:tile>"),
    ("GET", "/thing/<name>"),
    ("DELETE", "/thing/<name>"),
    ("GET", "/thing/all"),
    ("POST", "/thing.all"),
)
TABLE = Table([Route(method, path, Who.ANYONE, lambda call: json_response({})) for method, path in PATHS])


@pytest.mark.parametrize(
    ("method", "path", "row", "arguments"),
    [
        ("GET", "/tile/0/000", "/tile/<path:tile>", {"tile": "0/000"}),
        ("GET", "/tile/0/000/", "/tile/<path:tile>", {"tile": "0/000/"}),
        ("GET", "/tile/entries/000", "/tile/entries/<path:tile>", {"tile": "000"}),
        ("GET", "/thing/a", "/thing/<name>", {"name": "a"}),
        ("GET", "/thing/a/", "/thing/<name>", {"name": "a"}),
        ("GET", "/thing/a\nb", "/thing/<name>", {"name": "a\nb"}),
        ("DELETE", "/thing/a", "/thing/<name>", {"name": "a"}),
        ("GET", "/thing/all", "/thing/all", {}),
    ],
)
def test_the_narrowest_row_of_that_method_counts(method: str, path: str, row: str, arguments: dict[str, str]) -> None:
    route, found = TABLE.find(method, path)
    assert (route.method, route.path, found) == (method, row, arguments)


@pytest.mark.parametrize(
    "path",
    ["", "/", "/thing", "/thing/", "/thing//", "/thing/a/b", "/thing/a//", "//thing/a", "/tile/", "/tile//x", "/thingxall",
     "/thing.all\n", "/Thing/a"],
)  # fmt: skip
def test_a_path_that_no_row_has_is_404(path: str) -> None:
    with pytest.raises(HttpRefused) as caught:
        TABLE.find("GET", path)
    assert caught.value.status == 404


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "get"])
def test_another_method_is_405_and_names_those_there_are(method: str) -> None:
    with pytest.raises(HttpRefused) as caught:
        TABLE.find(method, "/thing/a")
    assert (caught.value.status, caught.value.headers) == (405, {"Allow": "GET, DELETE"})


def environ(body: bytes = b"", **more: str) -> dict[str, Any]:
    return {"PATH_INFO": "/a", "wsgi.input": io.BytesIO(body), **more}


def test_a_path_is_utf_8_and_a_proof_names_its_query_too() -> None:
    name = "/名".encode().decode("latin-1")
    assert path_of(environ(PATH_INFO=name)) == "/名"
    assert path_of(environ(PATH_INFO="/\xff")) == "/\ufffd"
    assert (target_of(environ()), target_of(environ(QUERY_STRING="b=%20c"))) == ("/a", "/a?b=%20c")


@pytest.mark.parametrize(
    ("query", "found"),
    [("", {}), ("a=1&b=2", {"a": "1", "b": "2"}), ("a=1&a=2", {"a": "1"}), ("a=&b", {"a": "", "b": ""}),
     ("a=x%20y+z", {"a": "x y z"}), ("a=%ff", {"a": "\ufffd"})],
)  # fmt: skip
def test_the_first_value_of_a_name_in_the_query_counts(query: str, found: dict[str, str]) -> None:
    assert query_of(environ(QUERY_STRING=query)) == found


@pytest.mark.parametrize(
    ("header", "found"),
    [("", ""), ("id=1", "1"), ("x=0; id=1", "1"), ("id=1; id=2", "1"), ("xid=1", ""), ("id", ""), (" id = 1 ;", "1"),
     ("ID=1", "")],
)  # fmt: skip
def test_the_first_cookie_of_a_name_counts(header: str, found: str) -> None:
    assert cookie_of(environ(HTTP_COOKIE=header), "id") == found


def test_a_body_of_a_known_length_is_read_to_its_end_and_no_further() -> None:
    there = environ(b"12345", CONTENT_LENGTH="4")
    assert body_of(there, 4) == b"1234"
    assert there["wsgi.input"].read() == b"5"


@pytest.mark.parametrize("more", [{"CONTENT_LENGTH": "5"}, {"HTTP_TRANSFER_ENCODING": "chunked"}])
def test_a_body_beyond_the_limit_is_413(more: dict[str, str]) -> None:
    with pytest.raises(HttpRefused) as caught:
        body_of(environ(b"12345", **more), 4)
    assert caught.value.status == 413
    assert (
        body_of(environ(b"1234", **more | ({"CONTENT_LENGTH": "4"} if "CONTENT_LENGTH" in more else {})), 4) == b"1234"
    )


def test_without_length_and_chunks_there_is_no_body() -> None:
    assert body_of(environ(b"12345"), 10) == b""
