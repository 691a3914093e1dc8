"""Bad input over HTTP: every body, every name, every clock; a defined answer each, and nothing changed by it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

from attest.broker.verify_trail import verify_trail
from attest.web.admin import ADMIN_ROUTES
from attest.web.guest import GUEST_ROUTES
from tests.fakes.kbs_client import KbsClient, KbsError
from tests.fakes.service_world import PATH, SECRET, ServiceWorld

DISAGREE = {
    "a member twice": b'{"version":"0.4.0",%s}',
    "NaN": b'{"x":NaN,%s}',
    "infinity": b'{"x":-Infinity,%s}',
    "beyond a double": b'{"x":1e999,%s}',
    "an integer of 65 bits": b'{"x":18446744073709551616,%s}',
    "an integer of 5000 digits": b'{"x":' + b"7" * 5000 + b",%s}",
    "depth": b'{"x":' + b"[" * 40 + b"]" * 40 + b",%s}",
    "depth that would end the process": b'{"x":' + b"[" * 6000 + b",%s}",
    "a lone surrogate": b'{"x":"\\ud800",%s}',
    "another encoding": b'{"x":"\xff",%s}',
    "a byte order mark": b"\xef\xbb\xbf{%s}",
    "text behind the end": b"{%s}{}",
    "single quotes": b"{'x':1,%s}",
    "no end": b"{%s",
}
HOSTILE = (
    "' OR '1'='1",
    "'; DROP TABLE secrets; --",
    '" UNION SELECT * FROM sessions --',
    "{{7*7}}",
    "${7*7}",
    "{% include '/etc/passwd' %}",
    "..",
    "a/../../b",
    "a%2fb",
    "a\0b",
    "a\r\nSet-Cookie: x=1",
    "\x1b[2J",
    "-1",
    "9" * 400,
    "名前",
)


@pytest.fixture
def world(tmp_path: Path) -> ServiceWorld:
    return ServiceWorld(tmp_path / "service")


def valid(world: ServiceWorld, path: str, guest: KbsClient) -> bytes:
    """A body that is accepted, without its braces."""
    if path == "/kbs/v0/auth":
        return b'"version":"0.4.0","tee":"snp"'
    if path == "/kbs/v0/attest":
        guest.auth()
        return json.dumps({**guest.evidence(), "version": "0.4.0"}).encode()[1:-1]
    return b'"version":"0.1.0","type":"rego","policy_id":"default","policy":"cGFja2FnZSBwb2xpY3k","payload":"e30="'


@pytest.mark.parametrize("form", DISAGREE.values(), ids=list(DISAGREE))
def test_json_that_two_readers_might_read_differently_is_400_everywhere(world: ServiceWorld, form: bytes) -> None:
    guest = world.client()
    for path in ("/kbs/v0/auth", "/kbs/v0/attest"):
        body = form.replace(b"%s", valid(world, path, guest))
        reply = guest.post_raw(path.removeprefix("/kbs/v0"), body)
        assert (reply.status, KbsError(reply).information["code"]) == (400, "request.malformed"), (path, reply)
    assert guest.attest()  # the nonce is still there: what does not parse uses up nothing
    admin = world.admin_app().test_client()
    for path in ("attestation-policy", "resource-policy", "reference-value"):
        reply = admin.post(f"/kbs/v0/{path}", data=form.replace(b"%s", valid(world, path, guest)))
        assert reply.status_code == 400, (path, reply.data)
    reply = admin.post("/cvm/v0/reference-value", data=form.replace(b"%s", b'"schema":"cvm.reference/1"'))
    assert reply.status_code == 400, reply.data


def changed(*path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(body: dict[str, Any]) -> None:
        table = body
        for name in path[:-1]:
            table = table[name]
        old = table[path[-1]]
        table[path[-1]] = value(old) if callable(value) else value

    return change


@pytest.mark.parametrize(
    "change",
    [
        changed("runtime-data", "nonce", value=lambda old: old[:-1]),
        changed("runtime-data", "nonce", value=lambda old: old + "="),
        changed("runtime-data", "nonce", value=lambda old: "-" + old[1:]),
        changed("runtime-data", "nonce", value=lambda old: " " + old),
        changed("runtime-data", "tee-pubkey", "x", value=lambda old: old + "="),
        changed("runtime-data", "tee-pubkey", "x", value=lambda old: "+" + old[1:]),
        changed("runtime-data", "tee-pubkey", "x", value=lambda old: old[:-1]),
        changed("runtime-data", "tee-pubkey", "x", value=lambda old: old + "A"),
        changed("runtime-data", "tee-pubkey", "y", value=""),
        changed("runtime-data", "tee-pubkey", "alg", value="none"),
        changed("runtime-data", "tee-pubkey", "crv", value="P-384"),
        changed("tee-evidence", "additional_evidence", value={}),
        changed("tee-evidence", "primary_evidence", value="e30="),
    ],
)
def test_base64_and_members_of_another_form_are_400_and_use_up_nothing(
    world: ServiceWorld, change: Callable[[dict[str, Any]], None]
) -> None:
    guest = world.client()
    guest.auth()
    body = json.loads(json.dumps(guest.evidence()))
    change(body)
    reply = guest.post_raw("/attest", json.dumps(body).encode())
    assert (reply.status, KbsError(reply).information["type"][-10:]) == (400, "SerdeError"), reply
    assert guest.attest()


def test_no_name_reaches_the_database_or_a_template_as_more_than_a_name(world: ServiceWorld) -> None:
    guest = world.client()
    guest.handshake()
    admin, guests = world.admin_app().test_client(), world.guest_app().test_client()
    names = (
        "value", "reason", "since", "until", "limit", "for", "purpose", "minutes", "bytes", "replace", "next", "planned",
        "canary-vm", "canary-chip", "canary-releases", "retire-old", "version", "present-references", "refresh",
        "kv-path", "field", "mount", "kv-version", "base64",
    )  # fmt: skip
    for text in HOSTILE:
        for route in (*ADMIN_ROUTES, *GUEST_ROUTES):
            own = route in GUEST_ROUTES
            path = "/".join(quote(text, safe="") if part.startswith("<") else part for part in route.path.split("/"))
            reply = (guests if own else admin).open(
                path,
                method=route.method,
                query_string=dict.fromkeys(names, text),
                headers={"Cookie": f"kbs-session-id={guest.cookie}"} if own else {},
                data=b"x" if route.max_body else None,
            )
            assert reply.status_code < 500, (route, text, reply.data)
            assert "x=1" not in reply.headers.get("Set-Cookie", ""), (route, text)
            if reply.status_code >= 400:
                assert "49" not in reply.json["detail"].replace(text, ""), (route, reply.data)
    assert verify_trail(world.database).repeated == 1
    assert world.client().resource(PATH) == SECRET


def test_a_cookie_that_was_stolen_gives_the_thief_nothing_and_takes_at_most_a_challenge(world: ServiceWorld) -> None:
    victim, thief = world.client(), world.client()
    victim.handshake()
    thief.cookie = victim.cookie
    reply = thief.get(f"/resource/{PATH}")
    assert reply.status == 200
    with pytest.raises(InvalidUnwrap):
        thief.key.decrypt(reply.json())  # it is for the key in the victim's report
    assert victim.key.decrypt(reply.json()) == SECRET
    thief.nonce = victim.nonce
    again = thief.post_raw("/attest", json.dumps(thief.evidence()).encode())
    assert (again.status, "token" in again.json()) == (401, False)
    victim = world.client()
    victim.auth()
    thief.cookie, thief.nonce = victim.cookie, victim.nonce
    assert thief.attest()  # a genuine guest of its own: the challenge is gone, and the key it gets is its own
    with pytest.raises(KbsError, match="nonce already used"):
        victim.attest()
    assert victim.handshake()


def test_a_clock_that_jumps_never_turns_a_refusal_into_an_acceptance(world: ServiceWorld) -> None:
    guest = world.client()
    token = guest.handshake()
    world.later(hours=-1)  # the token was made in the future
    bare = world.client()
    reply = bare.get(f"/resource/{PATH}", token)
    assert (reply.status, reply.json()["code"]) == (401, "token.expired")
    world.later(hours=1, minutes=6)
    assert guest.get(f"/resource/{PATH}").status == 401
    assert guest.resource(PATH) == SECRET  # attests again
    waiting = world.client()
    waiting.auth()
    world.later(minutes=3)
    with pytest.raises(KbsError, match="session expired"):
        waiting.attest()
    world.later(days=365 * 40)  # past every certificate
    late = world.client()
    late.auth()
    reply = late.post_raw("/attest", json.dumps(late.evidence()).encode())
    assert (reply.status in (403, 503), "token" in reply.json()) == (True, False), reply
    world.later(days=-365 * 40)
    assert world.client().resource(PATH) == SECRET
    assert verify_trail(world.database).repeated >= 4


def test_an_answer_to_bad_base64_in_a_header_is_a_refusal(world: ServiceWorld) -> None:
    guest = world.client()
    for token in ("a.b", "a.b.c", base64.b64encode(b"{}").decode().replace("=", "") + ".e30.", "." * 20, "x" * 20000):
        assert guest.get(f"/resource/{PATH}", token).status == 401, token[:20]


@pytest.mark.parametrize("when", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "0001-01-01", "1969-12-31"])
def test_a_time_that_no_clock_shows_is_400_wherever_one_is_taken(world: ServiceWorld, when: str) -> None:
    client, text = world.admin_app().test_client(), quote(when)
    before = world.records()
    asked = [f"audit?{side}={text}" for side in ("since", "until")]
    asked += [f"audit-questions/{name}?since={text}" for name in ("changes", "who", "anomalies", "today")]
    answers = [client.get(f"/cvm/v0/{path}") for path in asked]
    answers += [client.post(f"/cvm/v0/policy/replay?{side}={text}", data=b"x") for side in ("since", "until")]
    answers.append(client.post(f"/cvm/v0/reference-value/web-1/promotion?retire-old={text}"))
    for answer in answers:
        assert (answer.status_code, answer.json["code"]) == (400, "request.malformed"), answer.json
        assert "got" in answer.json["detail"]
    assert world.records() == before


def test_a_name_that_no_row_can_have_is_no_trouble_of_the_database(tmp_path: Path, store: str | None) -> None:
    """PostgreSQL's text holds no NUL: who asks for such a name is told so, and nobody is alarmed."""
    world = ServiceWorld(tmp_path / "service", store, busy_seconds=30)
    client = world.admin_app().test_client()
    for path in ("audit?kind=a%00", "audit?vm=a%00", "audit-questions/launches?value=a%00", "policy/a%00"):
        assert client.get(f"/cvm/v0/{path}").status_code in (200, 400, 404), path
    for path in ("vm/a%00?reason=x", "reference-value/a%00", "host/a%00"):
        assert client.delete(f"/cvm/v0/{path}").status_code in (400, 404), path
    assert client.get("/cvm/v0/audit?vm=web-1").status_code == 200, "the connection is in order"
