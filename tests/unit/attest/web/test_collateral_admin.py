"""The cache of a running service, as operators see and fill it over their listener."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attest.collateral.bundle import export_bundle
from attest.collateral.intel_source import PcsSource
from attest.collateral.url import KDS_URL
from attest.endorsement.anchors import TrustAnchors
from tests.fakes.amd_pki import NOW, Ca, FakeAmdPki
from tests.fakes.kds import FakeKds
from tests.fakes.service_world import AUDITOR, OPERATOR, PKI, ServiceWorld, demo_policy
from tests.unit.attest.broker.test_collateral import STRICT_LISTS, bare, make_world

URL = "/cvm/v0/collateral"


@pytest.fixture
def kds(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKds]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FakeKds(PKI) as service:
        yield service


def world_with_cache(folder: Path, kds: FakeKds, **more: Any) -> ServiceWorld:
    world = make_world(folder, kds, **more)
    source = world.service.collateral.source
    assert source is not None
    theirs = PcsSource(source.cache, None, source.clock)
    intel = replace(world.service.collateral.intel, source=theirs)
    world.service = replace(world.service, collateral=replace(world.service.collateral, intel=intel))
    return world


@pytest.fixture
def world(tmp_path: Path, kds: FakeKds) -> ServiceWorld:
    return world_with_cache(tmp_path, kds)


def ask(world: ServiceWorld, path: str = "", data: bytes | None = None, who: Any = OPERATOR) -> Any:
    method = "GET" if not path else "POST"
    return world.admin_app(who).test_client().open(URL + path, method=method, data=data)


def names(kds: FakeKds) -> bytes:
    return "\n".join(wanted.name for wanted in (kds.chain, kds.leaf, kds.list)).encode()


def test_things_are_fetched_by_name_before_a_guest_needs_them_and_listed(world: ServiceWorld, kds: FakeKds) -> None:
    done = ask(world, "/fetch", names(kds)).json["items"]
    assert [item["outcome"] for item in done] == ["fetched"] * 3, done
    world.later(seconds=1)
    assert {item["outcome"] for item in ask(world, "/fetch", names(kds)).json["items"]} == {"cached"}
    asked = len(kds.asked)
    assert bare(world).handshake()
    assert len(kds.asked) == asked, "the guest waited for nobody"
    listed = ask(world, who=AUDITOR).json
    assert [(item["name"], item["state"]) for item in listed["items"]] == sorted(
        (name, "good") for name in names(kds).decode().split()
    )
    kds.time.sleep(60)
    world.later(seconds=60)
    again = ask(world, "/fetch?refresh=1", kds.list.name.encode()).json["items"]
    assert (again[0]["outcome"], len(kds.asked)) == ("fetched", asked + 1)
    record = world.records("collateral-load")
    assert [(entry["subject"], entry["outcome"]) for entry in record] == [("fetch", "asked for")] * 3


def test_what_the_maker_does_not_give_is_said_of_each_thing(world: ServiceWorld, kds: FakeKds) -> None:
    kds.crl = lambda: PKI.crl(signer="mallory")
    done = {item["kind"]: item for item in ask(world, "/fetch", names(kds)).json["items"]}
    assert [done[kind]["outcome"] for kind in ("chain", "vcek", "crl")] == ["fetched", "fetched", "failed"]
    assert done["crl"]["code"] == "collateral.refused"


@pytest.mark.parametrize(
    "body",
    [b"", b"web-1", b"../../etc/passwd", b"https://evil.example/", b"\xff", b"crl-vcek-Milan " * 17],
)
def test_only_names_of_things_are_asked_for(world: ServiceWorld, kds: FakeKds, body: bytes) -> None:
    assert ask(world, "/fetch", body).status_code == 400
    assert (kds.asked, world.records("collateral-load")) == ([], [])


def test_a_maker_the_policy_does_not_trust_or_nobody_may_ask_is_not_asked(tmp_path: Path, kds: FakeKds) -> None:
    world = world_with_cache(tmp_path, kds)
    theirs = ask(world, "/fetch", b"rootcrl-intel")
    assert theirs.status_code == 400, theirs.data
    source = world.service.collateral.source
    assert source is not None and source.kds is not None
    source.kds = replace(source.kds, url=KDS_URL)
    refused = ask(world, "/fetch", names(kds))
    assert (refused.status_code, "AMD is not asked" in refused.json["detail"]) == (400, True), refused.data
    (tmp_path / "b").mkdir()
    offline = world_with_cache(tmp_path / "b", kds, online=False)
    assert "AMD is not asked" in ask(offline, "/fetch", names(kds)).json["detail"]
    assert kds.asked == []


def test_a_service_without_a_cache_says_so(tmp_path: Path) -> None:
    world = ServiceWorld(tmp_path / "service")
    for path, data in (("", None), ("/fetch", b"crl-vcek-Milan"), ("/import", b"{}")):
        refused = ask(world, path, data)
        assert (refused.status_code, "name no cache" in refused.json["detail"]) == (400, True), refused.data


def bundle_of(folder: Path, kds: FakeKds, pki: FakeAmdPki = PKI) -> bytes:
    source = kds.source(folder / "elsewhere")
    anchors = TrustAnchors.amd().with_test_root(pki.ark_der)
    now = NOW
    for wanted in (kds.chain, kds.leaf, kds.list):
        source.get(wanted, anchors, now, kds.time.budget())
    return export_bundle(source, anchors, now)


def test_a_bundle_is_verified_under_the_policys_roots_and_stored_with_who_brought_it(
    tmp_path: Path, kds: FakeKds
) -> None:
    data = bundle_of(tmp_path, kds)
    (tmp_path / "a").mkdir()
    world = world_with_cache(tmp_path / "a", kds, online=False)
    done = ask(world, "/import", data)
    assert [item["outcome"] for item in done.json["items"]] == ["stored"] * 3, done.data
    assert {item["outcome"] for item in ask(world, "/import", data).json["items"]} == {"kept"}
    assert bare(world).handshake()
    body = world.admin_app().test_client().get(f"/cvm/v0/audit/{world.records('collateral-load')[0]['number']}").json
    assert (body["actor"]["name"], len(body["body"]["items"])) == (OPERATOR.name, 3)


def test_a_bundle_that_does_not_verify_or_parse_stores_nothing(tmp_path: Path, kds: FakeKds) -> None:
    data = bundle_of(tmp_path, kds)
    (tmp_path / "a").mkdir()
    world = world_with_cache(tmp_path / "a", kds, online=False)
    world.policy(demo_policy(FakeAmdPki(ark=Ca(key="another root")).ark_der))
    refused = ask(world, "/import", data)
    assert (refused.status_code, refused.json["code"]) == (400, "bundle.refused"), refused.data
    assert ask(world, "/import", data[:-20]).status_code == 400
    assert ask(world, "/import", b"").status_code == 400
    world.policy(STRICT_LISTS)
    assert (ask(world).json["items"], world.records("collateral-load")) == ([], [])
