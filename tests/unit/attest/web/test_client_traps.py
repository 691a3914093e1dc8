"""What real clients trip over, as transcripts: the bytes they send, the answers they can read.

The client is the crate ``kbs_protocol`` of the guest components: it parses every error as ``{"type", "detail"}``, attests
again on 401 and on nothing else, keeps cookies as reqwest does, and drops what it does not know.
"""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime
from http.cookies import SimpleCookie
from pathlib import Path

import pytest

from tests.fakes.kbs_client import KbsError, Reply
from tests.fakes.service_world import PATH, SECRET, ServiceWorld

AUTH = (
    b'{"version":"0.4.0","tee":"snp","extra-params":{"supported-hash-algorithms":["sha256","sha384","sha512","sm3"]}}'
)


@pytest.fixture
def world(tmp_path: Path) -> ServiceWorld:
    return ServiceWorld(tmp_path / "service")


def send(world: ServiceWorld, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return world.client().transport.send(method, path, body, named)


def test_the_cookie_comes_back_as_reqwest_keeps_it_and_outlives_challenge_and_token(world: ServiceWorld) -> None:
    reply = send(world, "POST", "/kbs/v0/auth", AUTH)
    cookie = SimpleCookie(reply.headers["Set-Cookie"])["kbs-session-id"]
    assert (cookie["path"], cookie["secure"], cookie["httponly"], cookie["samesite"]) == (
        "/kbs/v0",
        True,
        True,
        "Strict",
    )
    left = parsedate_to_datetime(cookie["expires"]) - world.now
    assert left >= world.service.challenge_lifetime
    assert set(reply.json()) == {"nonce", "extra-params"}
    assert reply.headers["Content-Type"] == "application/json"


def test_no_answer_to_a_guest_chooses_a_hash_so_that_clients_take_sha_384(world: ServiceWorld) -> None:
    assert send(world, "POST", "/kbs/v0/auth", AUTH).json()["extra-params"] == ""


@pytest.mark.parametrize("version", ["0.1.0", "0.1.1", "0.3.0", "0.5.0", "=0.4.0", " 0.4.0"])
def test_a_version_mismatch_is_in_the_words_that_are_looked_for_and_no_reason_to_attest_again(
    world: ServiceWorld, version: str
) -> None:
    reply = send(world, "POST", "/kbs/v0/auth", AUTH.replace(b"0.4.0", version.encode()))
    assert reply.status == 400
    assert KbsError(reply).information["detail"].startswith("KBS Client Protocol Version Mismatch: expect =0.4.0 while")


def test_members_a_client_adds_to_its_key_are_dropped_before_the_key_is_hashed(world: ServiceWorld) -> None:
    guest = world.client()
    guest.auth()
    body = guest.evidence()
    body["runtime-data"]["tee-pubkey"] = {**guest.key.jwk, "kid": "x", "use": "enc"}
    body["unknown"] = body["runtime-data"]["unknown"] = 1
    guest.attest(body)
    assert guest.resource(PATH) == SECRET


@pytest.mark.parametrize("form", [None, "missing"])
def test_init_data_may_be_null_or_missing(world: ServiceWorld, form: str | None) -> None:
    guest = world.client()
    guest.auth()
    body = guest.evidence()
    if form:
        del body["init-data"]
    assert guest.attest(body)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_the_data_hub_shows_the_token_without_any_cookie(world: ServiceWorld, scheme: str) -> None:
    guest = world.client()
    token = guest.handshake()
    reply = send(world, "GET", f"/kbs/v0/resource/{PATH}", Authorization=f"{scheme} {token}")
    assert guest.key.decrypt(reply.json()) == SECRET


def test_a_cookie_counts_before_a_token(world: ServiceWorld) -> None:
    first, second = world.client(), world.client()
    first.handshake()
    token = second.handshake()
    reply = send(
        world,
        "GET",
        f"/kbs/v0/resource/{PATH}",
        Cookie=f"kbs-session-id={first.cookie}",
        Authorization=f"Bearer {token}",
    )
    assert first.key.decrypt(reply.json()) == SECRET


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/kbs/v0/resource/default/web-1/unknown", 404),
        ("GET", "/kbs/v0/resource/default/.hidden/root", 400),
        ("GET", "/kbs/v0/resource/default/web-1", 404),
        ("GET", "/kbs/v0/resource/default/web-1/root/more", 404),
        ("GET", "/kbs/v0/nebula-ca/credential?ip=1", 404),
        ("GET", "/kbs/v0/provisioner/default/x/root", 404),
        ("GET", "/kbs/v0/auth", 405),
        ("PUT", "/kbs/v0/attest", 405),
        ("POST", "/kbs/v1/auth", 404),
        ("GET", "/", 404),
    ],
)
def test_an_attested_guest_that_asks_for_what_is_not_there_can_read_the_answer_and_does_not_attest_again(
    world: ServiceWorld, method: str, path: str, status: int
) -> None:
    guest = world.client()
    guest.handshake()
    reply = send(world, method, path, b"{}" if method != "GET" else None, Cookie=f"kbs-session-id={guest.cookie}")
    assert (reply.status, reply.headers["Content-Type"]) == (status, "application/json")
    assert KbsError(reply).information["type"].startswith("https://github.com/confidential-containers/kbs/errors/")


@pytest.mark.parametrize("cookie", ["", "kbs-session-id=", "kbs-session-id=x", "kbs-session-id=" + "0" * 64, "other=1"])
def test_without_a_session_of_ours_401_makes_the_client_attest(world: ServiceWorld, cookie: str) -> None:
    for method, path in (("GET", f"/kbs/v0/resource/{PATH}"), ("POST", "/kbs/v0/attest")):
        guest = world.client()
        guest.auth()
        body = json.dumps(guest.evidence()).encode() if method == "POST" else None
        reply = send(world, method, path, body, Cookie=cookie)
        assert (reply.status, KbsError(reply).status) == (401, 401), (method, reply)


@pytest.mark.parametrize("tee", ["sample", "azsnpvtpm", "az-snp-vtpm", "se", "cca", "SNP", ""])
def test_a_tee_we_do_not_verify_is_refused_before_any_challenge_is_made(world: ServiceWorld, tee: str) -> None:
    reply = send(world, "POST", "/kbs/v0/auth", AUTH.replace(b'"snp"', json.dumps(tee).encode()))
    assert (reply.status, "Set-Cookie" in reply.headers) == (400, False)
    assert KbsError(reply).information["code"] == "request.unsupported"
