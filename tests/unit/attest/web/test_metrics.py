"""Counters, readiness and logs: whose fault it was, and nothing secret."""

from __future__ import annotations

import base64
import json
import logging
import multiprocessing
import os
import re
import signal
from datetime import timedelta
from pathlib import Path

import pytest

from attest.keys.master import MasterKeys
from attest.web.health import checks, ready
from attest.web.logs import JsonFormatter
from attest.web.metrics import Metrics
from policy.secret import SecretBytes
from tests.fakes.kbs_client import KbsClient, KbsError
from tests.fakes.service_world import OTHER, PATH, SECRET, ServiceWorld

ROUTES = {"guests": ["/a", "/b"], "operators": ["/c"]}


@pytest.fixture
def world(tmp_path: Path, store: str | None) -> ServiceWorld:
    return ServiceWorld(tmp_path / "service", store)


def samples(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_counts_of_several_processes_add_up_and_survive_their_death() -> None:
    metrics = Metrics(ROUTES, processes=4)
    fork = multiprocessing.get_context("fork")

    def count() -> None:
        for _ in range(100):
            metrics.request("guests", "/a", 200, 0.003)
        os.kill(os.getpid(), signal.SIGKILL)

    for _ in range(3):  # more processes in all than rows, never more at once
        racers = [fork.Process(target=count) for _ in range(3)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join(20)
    metrics.request("guests", "/a", 200, 0.003)
    found = samples(metrics.text({}))
    assert found['attest_requests_total{listener="guests",route="/a",status="200"}'] == 901
    assert found['attest_request_seconds_count{listener="guests",route="/a"}'] == 901


def test_histogram_buckets_are_cumulative_and_end_with_all() -> None:
    metrics = Metrics(ROUTES)
    for seconds in (0.0005, 0.003, 0.2, 60.0):
        metrics.request("guests", "/b", 200, seconds)
    found = samples(metrics.text({}))
    bucket = 'attest_request_seconds_bucket{listener="guests",route="/b",le="%s"}'
    assert [found[bucket % bound] for bound in ("0.001", "0.005", "0.25", "5.0", "+Inf")] == [1, 2, 3, 3, 4]
    assert found['attest_request_seconds_sum{listener="guests",route="/b"}'] == pytest.approx(60.2035)


def test_a_status_or_route_nobody_named_makes_no_new_series() -> None:
    metrics = Metrics(ROUTES)
    metrics.request("guests", "/a", 418, 0.1)
    metrics.request("guests", "/secret/path", 200, 0.1)
    found = samples(metrics.text({"database": False}))
    assert found['attest_requests_total{listener="guests",route="/a",status="other"}'] == 1
    assert not any("secret" in name for name in found)
    assert found['attest_check{check="database"}'] == 0


def test_every_line_is_of_the_exposition_format() -> None:
    metrics = Metrics(ROUTES)
    metrics.request("operators", "/c", 503, 0.1)
    metrics.failure("storage")
    sample = re.compile(r'[a-z_]+(\{[a-z]+="[^"\n]*"(,[a-z]+="[^"\n]*")*\})? [0-9.e+-]+')
    text = metrics.text({"keys": True})
    assert text.endswith("\n")
    for line in text.splitlines():
        assert line.startswith(("# HELP ", "# TYPE ")) or sample.fullmatch(line), line
    families = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(families) == len(set(families)), "a family's series must stand together"


def counted(client: KbsClient, world: ServiceWorld) -> dict[str, float]:
    """The failure counters of the application the client talks to."""
    watched = client.transport.client.application.extensions["attest.metrics"]
    found = samples(watched.text({}))
    return {name.split('"')[1]: value for name, value in found.items() if name.startswith("attest_failures") and value}


def test_a_bad_guest_missing_collateral_and_our_defect_are_counted_apart(
    world: ServiceWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = world.client(measurement=OTHER)
    with pytest.raises(KbsError):
        client.handshake()
    assert counted(client, world) == {"guest": 1}
    client = world.client()
    client.auth()
    body = client.evidence()
    body["tee-evidence"]["primary_evidence"]["cert_chain"] = None
    with pytest.raises(KbsError):
        client.attest(body)
    assert counted(client, world) == {"collateral": 1}

    def broken(self: object, generation: int) -> None:
        raise RuntimeError("defect")

    monkeypatch.setattr("attest.broker.rules.RulesInForce.at", broken)
    client = world.client()
    with pytest.raises(KbsError):
        client.handshake()
    assert counted(client, world) == {"service": 1}


def test_operators_see_every_check_and_guests_one_code(world: ServiceWorld) -> None:
    assert checks(world.service, world.now) == dict.fromkeys(
        ("database", "keys", "policy", "collateral", "renewal", "log"), "ok"
    )
    admin = world.admin_app().test_client()
    assert admin.get("/readyz").json["status"] == "ready"
    world.service = type(world.service)(
        world.database, MasterKeys((SecretBytes(b"x" * 32),)), world.service.signing_keys, world.service.token,
        world.collateral,
    )  # fmt: skip
    found = checks(world.service, world.now)
    assert (found["keys"], found["policy"], ready(found)) == ("keys.seal-broken", "ok", False)
    guest = world.guest_app().test_client().get("/readyz")
    assert (guest.status_code, guest.json) == (503, {"status": "not ready", "code": "keys.seal-broken"})
    answer = world.admin_app().test_client().get("/readyz")
    assert (answer.status_code, answer.json["checks"]["keys"]) == (503, "keys.seal-broken")
    text = world.admin_app().test_client().get("/metrics").get_data(as_text=True)
    assert 'attest_check{check="keys"} 0' in text
    assert 'attest_check{check="database"} 1' in text


def test_a_strangers_question_looks_through_no_cache(world: ServiceWorld) -> None:
    """It is answered under any load, so it must not cost what a fleet's certificates cost."""
    object.__setattr__(world.service, "collateral", None)
    assert world.guest_app().test_client().get("/readyz").json == {"status": "ready"}


def test_a_stale_list_is_reported_and_does_not_take_the_replica_out_of_service(tmp_path: Path) -> None:
    from attest.broker.collateral import ServiceCollateral
    from attest.collateral.folder import CollateralFolder
    from tests.fakes.service_world import PKI

    folder = tmp_path / "collateral"
    folder.mkdir()
    (folder / "list").write_bytes(PKI.crl())
    world = ServiceWorld(tmp_path / "service", collateral=ServiceCollateral(CollateralFolder(folder)))
    assert checks(world.service, world.now)["collateral"] == "ok"
    found = checks(world.service, world.now + timedelta(days=4000))
    assert (found["collateral"], ready(found)) == ("collateral.stale", True)


def test_a_stale_list_of_intels_is_reported_too(tmp_path: Path) -> None:
    from attest.broker.collateral import ServiceCollateral
    from attest.broker.collateral_intel import IntelCollateralService
    from attest.collateral.intel_folder import IntelFolder
    from tests.fakes.intel_pki import NOW, FakeIntelPki

    pki = FakeIntelPki()
    folder = tmp_path / "collateral"
    folder.mkdir()
    for number, der in enumerate((*pki.crl_ders, *pki.issuer_chain)):
        (folder / f"{number}.der").write_bytes(der)
    collateral = ServiceCollateral(intel=IntelCollateralService(IntelFolder(folder)))
    world = ServiceWorld(tmp_path / "service", collateral=collateral)
    found = checks(world.service, world.now + timedelta(days=4000))
    assert (found["collateral"], ready(found)) == ("collateral.stale", True)
    assert checks(world.service, NOW)["collateral"] == "ok"


def secrets_of(world: ServiceWorld, client: KbsClient, token: str) -> list[str]:
    """Everything of an exchange that must stay out of logs, in every spelling."""
    plain = [SECRET, b"m" * 32]
    spelled = [f(value) for value in plain for f in (bytes.hex, lambda v: base64.b64encode(v).decode(), repr)]
    pem = (world.folder / "token.key").read_text().splitlines()[1]
    return [*spelled, SECRET.decode(), token, token.split(".")[2], client.cookie or "-", client.nonce, pem]


def test_no_log_line_and_no_exception_holds_a_secret(
    world: ServiceWorld, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole exchange, refusals of every kind, a defect in the middle of a release, and each of their tracebacks."""
    caplog.set_level(logging.DEBUG)
    client = world.client()
    token = client.handshake()
    assert client.resource(PATH, token) == SECRET
    client.get("/resource/default/web-1/none", token)
    client.get(f"/resource/{PATH}", token + "x")
    client.post_raw("/attest", json.dumps(client.evidence()).encode())
    client.post_raw("/auth", b"{")
    with pytest.raises(KbsError):
        world.client(measurement=OTHER).handshake()
    world.admin_app().test_client().post("/kbs/v0/resource/a/b/c", data=SECRET)

    def broken(*arguments: object, **named: object) -> None:
        raise RuntimeError("defect")

    for name in ("attest.broker.release.encrypt", "attest.broker.release.append", "attest.broker.release.unseal"):
        with monkeypatch.context() as patch:
            patch.setattr(name, broken)
            assert client.get(f"/resource/{PATH}", token).status == 500
    lines = [JsonFormatter().format(record) for record in caplog.records]
    assert len(lines) > 10
    assert sum("traceback" in json.loads(line) for line in lines) >= 3
    for line in lines:
        for secret in secrets_of(world, client, token):
            assert secret not in line


def test_a_request_cannot_forge_a_log_line(world: ServiceWorld, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world.guest_app().test_client().get('/%0a{"level":"info"}%1b[2J')
    line = JsonFormatter().format(caplog.records[-1])
    assert "\n" not in line
    assert "\x1b" not in line
    found = json.loads(line)
    assert (found["status"], found["route"], found["fault"]) == (404, "none", "guest")
    assert found["path"] == '/\n{"level":"info"}\x1b[2J'
