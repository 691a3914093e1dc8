"""Limits: per address, per chip, and on what may wait."""

from __future__ import annotations

import json
import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from attest.broker.errors import TooMany
from attest.broker.limits import PLACES, Limiter, Limits
from attest.web.load import HERE
from tests.fakes.kbs_client import KbsError
from tests.fakes.served import Served
from tests.fakes.service_world import OTHER, PATH, SECRET, ServiceWorld, reference


class Ticks:
    """A monotonic clock that tests turn."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def visits(limiter: Limiter, key: bytes, tries: int) -> int:
    """How many of ``tries`` got through."""
    counted = 0
    for _ in range(tries):
        try:
            limiter.check(key)
        except TooMany:
            continue
        counted += 1
    return counted


def test_a_burst_gets_through_and_then_one_at_a_time() -> None:
    ticks = Ticks()
    limiter = Limiter("address", 60, 5, clock=ticks)
    assert visits(limiter, b"a", 20) == 5
    assert visits(limiter, b"b", 20) == 5, "another address has its own account"
    for _ in range(3):
        ticks.now += 1
        assert visits(limiter, b"a", 20) == 1
    ticks.now += 3600
    assert visits(limiter, b"a", 20) == 5, "an account never holds more than the burst"


def test_the_error_says_how_long_to_wait_and_waiting_so_long_is_enough() -> None:
    ticks = Ticks()
    limiter = Limiter("chip", 6, 1, clock=ticks)
    limiter.check(b"a")
    with pytest.raises(TooMany) as caught:
        limiter.check(b"a")
    assert (caught.value.code, caught.value.retry) == ("limit.chip", 10)
    ticks.now += caught.value.retry
    limiter.check(b"a")


def test_no_limit_is_no_limit() -> None:
    assert visits(Limiter("address", 0), b"a", 1000) == 1000


def test_processes_share_accounts_to_the_last_visit() -> None:
    limiter = Limiter("address", 1, 100)
    fork = multiprocessing.get_context("fork")
    results: multiprocessing.Queue[int] = fork.Queue()
    racers = [fork.Process(target=lambda: results.put(visits(limiter, b"a", 60))) for _ in range(4)]
    for racer in racers:
        racer.start()
    assert sum(results.get(timeout=30) for _ in racers) == 100
    for racer in racers:
        racer.join(30)


def test_a_full_table_forgets_accounts_and_never_locks_anybody_out() -> None:
    limiter = Limiter("address", 60, 2, clock=Ticks())
    for number in range(2 * PLACES):
        limiter.check(number.to_bytes(4, "big"))


@pytest.fixture
def world(tmp_path: Path) -> ServiceWorld:
    return ServiceWorld(tmp_path / "service")


def limited(world: ServiceWorld, limits: Limits) -> ServiceWorld:
    old = world.service
    world.service = type(old)(old.database, old.master_keys, old.signing_keys, old.token, old.collateral, limits=limits)
    return world


def refused(call: Any) -> KbsError:
    with pytest.raises(KbsError) as caught:
        call()
    return caught.value


def test_an_address_that_comes_too_often_is_told_429_and_when_to_come_again(world: ServiceWorld) -> None:
    limited(world, Limits.of(8, 0, 100))  # a burst of two
    client = world.client()
    client.auth()
    client.auth()
    reply = client.post_raw("/auth", b"{}")
    assert (reply.status, reply.headers["Retry-After"]) == (429, "8")
    assert KbsError(reply).information["code"] == "limit.address"
    for path in ("/healthz", "/readyz"):
        assert client.transport.send("GET", path, None, {}).status == 200


def test_a_chip_is_counted_once_its_evidence_is_genuine_whatever_the_verdict(world: ServiceWorld) -> None:
    limited(world, Limits.of(0, 8, 100))
    for _ in range(3):
        client = world.client()
        client.auth()
        body = client.evidence()
        primary = body["tee-evidence"]["primary_evidence"]
        del primary["report"]
        primary["attestation_report"]["guest_svn"] ^= 1
        assert refused(lambda c=client, b=body: c.attest(b)).information["reasons"] == ["signature"]
    assert refused(world.client(measurement=OTHER).handshake).status == 403
    world.client().handshake()
    before = world.records()
    error = refused(world.client().handshake)
    assert (error.status, error.information["code"]) == (429, "limit.chip")
    assert world.records() == before


def test_beyond_the_bound_guests_are_told_503_at_once_and_health_is_answered(
    world: ServiceWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(world, Limits.of(0, 0, 4))
    client = world.client()
    client.auth()
    body = json.dumps(client.evidence()).encode()
    monkeypatch.setattr(HERE, "queued", 5)
    assert refused(world.client().auth).status == 503, "a guest that begins"
    monkeypatch.setattr(HERE, "queued", 4 * 4 + 1)
    reply = client.post_raw("/attest", body)
    assert (reply.status, reply.headers["Retry-After"]) == (503, "5")
    assert KbsError(reply).information["code"] == "service.overloaded"
    assert client.transport.send("GET", "/healthz", None, {}).status == 200
    assert world.admin_app().test_client().get("/cvm/v0/decisions").status_code == 200
    monkeypatch.setattr(HERE, "queued", 4 * 4)
    assert client.post_raw("/attest", body).status == 200, "the refusal has not used the nonce up"


def test_a_refusal_has_its_headers_its_count_and_its_line_in_the_log(
    world: ServiceWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    limited(world, Limits.of(0, 0, 4))
    client = world.client()
    monkeypatch.setattr(HERE, "queued", 5)
    with caplog.at_level("INFO", "attest.requests"):
        reply = client.post_raw("/auth", b"{}")
    assert (reply.status, reply.headers["Cache-Control"]) == (503, "no-store")
    told = caplog.records[-1].fields
    assert (told["path"], told["status"], told["fault"], told["code"]) == (
        "/kbs/v0/auth", 503, "overload", "service.overloaded",
    )  # fmt: skip


def test_a_guest_that_asks_for_a_proof_gets_one_of_a_refusal_too(
    world: ServiceWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(world, Limits.of(0, 0, 4))
    object.__setattr__(world.service, "answer_key", world.signing)
    monkeypatch.setattr(HERE, "queued", 5)
    asked = {"Cvm-Challenge": "A" * 43}
    reply = world.client().transport.send("POST", "/kbs/v0/auth", b"{}", asked)
    assert (reply.status, "Cvm-Proof" in reply.headers) == (503, True)


def test_a_running_service_under_too_many_guests_answers_every_one_of_them(tmp_path: Path) -> None:
    """One worker, a bound of one: everybody gets an answer, keys or 503, and nobody a broken connection."""
    served = Served(tmp_path / "service").init()
    settings = served.config.read_text().replace("workers = 2", "workers = 1").replace("queue = 32 ", "queue = 1 ")
    served.config.write_text(settings)
    served.start()
    try:
        assert served.attest("key", "put", PATH, stdin=SECRET).code == 0
        (tmp_path / "ref.json").write_bytes(reference())
        assert served.attest("reference", "add", str(tmp_path / "ref.json")).code == 0

        def visit(_: int) -> int:
            try:
                return 200 if served.guest().resource(PATH) == SECRET else 0
            except KbsError as exc:
                assert exc.information["code"] == "service.overloaded"
                return exc.status

        with ThreadPoolExecutor(24) as pool:
            statuses = list(pool.map(visit, range(72)))
        assert set(statuses) == {200, 503}
        text = served.operator().send("GET", "/metrics", None, {}).body.decode()
        shed = next(line for line in text.splitlines() if 'fault="overload"' in line)
        assert float(shed.split()[-1]) >= statuses.count(503)
        assert 'attest_requests_total{listener="guests",route="/kbs/v0/auth",status="200"}' in text
    finally:
        assert served.stop() == 0
