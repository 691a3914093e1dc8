"""Requests in the plain form: read as gunicorn's parser reads them, or left to it."""

from __future__ import annotations

import io
import socket
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http import wsgi
from gunicorn.http.errors import ParseException
from gunicorn.http.parser import RequestParser
from hypothesis import example, given, settings
from hypothesis import strategies as st

from attest.web.plain import (
    MAX_FIELD,
    MAX_FIELDS,
    MAX_REQUEST_LINE,
    PlainBody,
    PlainReply,
    PlainRequest,
    environ_of,
    parse_plain,
)

GOOD = b"POST /kbs/v0/auth?a=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nCookie: a=b\r\n\r\nbody"
PEER = ("127.0.0.1", 4711)


def config() -> Config:
    """As a listener sets it."""
    found = Config()
    for name, value in {"limit_request_line": 2048, "limit_request_fields": 40, "forwarded_allow_ips": ""}.items():
        found.set(name, value)
    found.set("secure_scheme_headers", {})
    return found


CONFIG = config()


def by_gunicorn(data: bytes) -> tuple[dict[str, Any], bytes, bool]:
    """The members of the environment, the body, and whether the connection ends."""
    request = next(RequestParser(CONFIG, iter([data]), PEER))
    environ = wsgi.create(request, None, PEER, ("127.0.0.1", 1), CONFIG)[1]
    return environ, request.body.read(), request.should_close()


def ours(found: PlainRequest) -> tuple[dict[str, Any], bytes, bool]:
    """The same."""
    body = PlainBody(found.rest, found.length, lambda size: b"")
    return environ_of({}, found, body, PEER), body.read(), found.close


def assert_alike(data: bytes) -> None:
    """What we take, gunicorn takes, and both read the same."""
    found = parse_plain(data)
    if found is None:
        return
    mine, body, close = ours(found)
    theirs, their_body, their_close = by_gunicorn(data)
    assert (body, close) == (their_body, their_close)
    names = [name for name in theirs if name.startswith(("HTTP_", "CONTENT_", "REMOTE_"))]
    names += ["REQUEST_METHOD", "RAW_URI", "PATH_INFO", "QUERY_STRING"]
    assert {name: theirs[name] for name in names} == {name: mine[name] for name in names}
    assert {name for name in mine if name.startswith(("HTTP_", "CONTENT_"))} <= set(theirs)


PIECES = st.sampled_from(
    [b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b",", b";", b"\0", b"\x7f", b"\xff", b"_", b"-", b"#", b"?", b"%2f", b"%", b"//",
     b"/", b"[", b"0", b"+4", b"4", b"Host", b"Content-Length", b"Transfer-Encoding", b"chunked", b"Connection", b"close",
     b"keep-alive", b"Expect", b"100-continue", b"GET", b"HTTP/1.1", b"HTTP/1.0", b"Cookie", b"a@b", b"X-Y"]
)  # fmt: skip
CHANGE = st.tuples(st.integers(0, len(GOOD)), st.integers(0, 4), st.lists(PIECES, max_size=4).map(b"".join))


@settings(max_examples=400, deadline=None)
@given(st.lists(CHANGE, min_size=1, max_size=4))
@example([(0, 0, b"\r\n")])
@example([(33, 0, b"Content-Length: 4\r\n")])
def test_what_is_taken_as_plain_gunicorn_reads_alike(changes: list[tuple[int, int, bytes]]) -> None:
    data = GOOD
    for at, gone, put in changes:
        data = data[:at] + put + data[at + gone :]
    assert_alike(data)


@pytest.mark.parametrize(
    "target", ["/", "/a//b", "/a;b=c", "/a?b?c", "/a%2Fb%00", "/a:b@c", "/a[b", "/%zz", "/?", "/a?"]
)
@pytest.mark.parametrize("length", [b"4", b"004", b" 4 ", b"0"])
def test_plain_requests_are_taken_and_read_alike(target: str, length: bytes) -> None:
    data = b"POST %b HTTP/1.1\r\nhost:x\r\nCONTENT-LENGTH:%b\r\nX-A:\t b c\xe9 \t\r\n\r\nbody" % (
        target.encode(),
        length,
    )
    assert parse_plain(data) is not None
    assert_alike(data)


@pytest.mark.parametrize(
    "data",
    [
        GOOD.replace(b"Cookie: a=b", b"Content-Length: 4"),
        GOOD.replace(b"Cookie: a=b", b"Content-Length: 5"),
        GOOD.replace(b"Content-Length: 4", b"Content-Length: 4, 4"),
        GOOD.replace(b"Content-Length: 4", b"Content-Length: +4"),
        GOOD.replace(b"Content-Length: 4", b"Content-Length: -4"),
        GOOD.replace(b"Content-Length: 4", b"Content-Length: 0x4"),
        GOOD.replace(b"Content-Length: 4", b"Content-Length: 4_0"),
        GOOD.replace(b"Content-Length: 4", b"Content-Length: \xb2"),
        GOOD.replace(b"Content-Length: 4", b"Content-Length:"),
        GOOD.replace(b"Content-Length: 4", b"Content-Length: " + b"0" * 15 + b"4"),
        GOOD.replace(b"Cookie: a=b", b"Transfer-Encoding: chunked"),
        GOOD.replace(b"Content-Length: 4", b"Transfer-Encoding: chunked"),
        GOOD.replace(b"Content-Length: 4", b"transfer-encoding: identity"),
        GOOD.replace(b"Cookie: a=b", b"Transfer_Encoding: chunked"),
        GOOD.replace(b"Cookie: a=b", b"Transfer-Encoding : chunked"),
        GOOD.replace(b"Cookie: a=b", b"Cookie : a=b"),
        GOOD.replace(b"Cookie: a=b", b" Cookie: a=b"),
        GOOD.replace(b"Cookie: a=b", b"Cookie: a=b\r\n c"),
        GOOD.replace(b"Cookie: a=b", b"Cookie: a=b\r\nCookie: c=d"),
        GOOD.replace(b"Cookie: a=b", b"Cookie: a\0b"),
        GOOD.replace(b"Cookie: a=b", b"Cookie: a\rb"),
        GOOD.replace(b"Cookie: a=b", b"Cookie: a\nTransfer-Encoding: chunked"),
        GOOD.replace(b"Cookie: a=b", b"Cookie"),
        GOOD.replace(b"Cookie: a=b", b": a=b"),
        GOOD.replace(b"Cookie: a=b", b"Expect: 100-continue"),
        GOOD.replace(b"Cookie: a=b", b"Connection: Upgrade"),
        GOOD.replace(b"Cookie: a=b", b"Connection: keep-alive, close"),
        GOOD.replace(b"Host: x\r\n", b"Host: x\n"),
        GOOD.replace(b" HTTP/1.1", b" HTTP/1.0"),
        GOOD.replace(b" HTTP/1.1", b" HTTP/2.0"),
        GOOD.replace(b" HTTP/1.1", b""),
        GOOD.replace(b"POST ", b"POST  "),
        GOOD.replace(b"POST ", b"post "),
        GOOD.replace(b"POST ", b"HEAD "),
        GOOD.replace(b"POST ", b"CONNECT "),
        GOOD.replace(b"/kbs", b"//kbs"),
        GOOD.replace(b"/kbs", b"http://x/kbs"),
        GOOD.replace(b"/kbs", b"/#kbs"),
        GOOD.replace(b"/kbs", b"/\xe9kbs"),
        b"\r\n" + GOOD,
        GOOD.replace(b"a=1", b"a" * MAX_REQUEST_LINE),
        GOOD.replace(b"a=b", b"a" * MAX_FIELD),
        GOOD.replace(b"Cookie: a=b", b"\r\n".join(b"x%d: y" % number for number in range(MAX_FIELDS))),
        GOOD.replace(b"\r\n\r\n", b"\r\n"),
        b"",
    ],
)
def test_what_is_not_plain_is_left_to_gunicorns_parser(data: bytes) -> None:
    assert parse_plain(data) is None


def test_limits_are_those_of_the_parser_behind() -> None:
    line = GOOD.replace(b"a=1", b"a" * (MAX_REQUEST_LINE - len(b"POST /kbs/v0/auth? HTTP/1.1")))
    field = GOOD.replace(b"a=b", b"a" * (MAX_FIELD - len(b"Cookie: \r\n")))
    fields = GOOD.replace(b"Cookie: a=b", b"\r\n".join(b"x%d: y" % number for number in range(MAX_FIELDS - 2)))
    for data, longer in ((line, b"/kbs"), (field, b"Cookie: "), (fields, b"Host: x\r\n")):
        assert parse_plain(data) is not None
        assert_alike(data)
        beyond = data.replace(longer, longer + (b"y: z\r\n" if longer.endswith(b"\n") else b"a"))
        assert parse_plain(beyond) is None
        with pytest.raises(ParseException):
            by_gunicorn(beyond)


def test_a_value_of_many_blanks_is_read_alike() -> None:
    data = GOOD.replace(b"a=b", b"a" + b" \t" * 4000 + b"b")
    assert parse_plain(data) is not None
    assert_alike(data)


def test_a_body_is_read_from_the_connection_as_far_as_its_length_and_the_rest_is_kept() -> None:
    more = io.BytesIO(b"cdefgh")
    body = PlainBody(b"ab", 5, more.read)
    assert (body.read(1), body.read(3), body.left) == (b"a", b"bcd", 1)
    assert (body.read(), body.read(), body.left, more.read()) == (b"e", b"", 0, b"fgh")
    lines = PlainBody(b"one\ntwo\nthree", 8, lambda size: b"")
    assert (lines.readline(), list(lines), lines.after()) == (b"one\n", [b"two\n"], b"three")
    short = PlainBody(b"ab", 5, lambda size: b"")
    assert (short.read(), short.left) == (b"ab", 3)


def sent(*headers: tuple[str, str], status: str = "200 OK", parts: tuple[bytes, ...] = (b"hello",)) -> bytes:
    """What goes over the wire."""
    near, far = socket.socketpair()
    with near, far:
        reply = PlainReply(near, False, lambda: True)
        reply.start_response(status, headers)
        for part in parts:
            reply.write(part)
        reply.end()
        near.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: far.recv(4096), b""))


def test_an_answer_of_known_length_keeps_the_connection_and_one_of_unknown_ends_it() -> None:
    known = sent(("Content-Length", "5"))
    assert known.startswith(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDate: ")
    assert known.endswith(b"Connection: keep-alive\r\n\r\nhello")
    assert b"\r\nConnection: close\r\n\r\nhello" in sent()
    assert sent(status="304 Not Modified", parts=()).endswith(b"Connection: keep-alive\r\n\r\n")


@pytest.mark.parametrize("header", [("X", "a\r\nSet-Cookie: b"), ("X", "a\nb"), ("X\r\nY", "a"), ("X", "a\r")])
def test_an_answers_header_cannot_hold_another(header: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="end of line"):
        sent(header)
