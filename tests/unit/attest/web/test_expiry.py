"""Nothing ends unannounced: 30, 7 and 1 days before, and at the end, once each, for everything that can end."""

from __future__ import annotations

import json
import logging
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from attest.broker.collateral import ServiceCollateral
from attest.broker.expiry import ENDED, Expiring, due
from attest.broker.watched import Watched
from attest.collateral.clock import Budget
from attest.collateral.wanted import Family, Kind, Wanted
from attest.keys.authority import issue_server, make_authority
from attest.keys.ring import add_key
from attest.settings_collateral import CollateralSettings
from attest.store import grants
from attest.store.grants import StoredApproval
from attest.web.expiry_watch import ExpiryWatch, expiries_of
from attest.web.logs import FIELDS
from tests.fakes.amd_pki import NOW
from tests.fakes.intel_pki import FakeIntelPki
from tests.fakes.kds import FakeKds
from tests.fakes.served import Served, attest_command
from tests.fakes.service_world import PATH, PKI, ServiceWorld, demo_policy, reference

DAY = timedelta(days=1)
NEXT = reference("web-2", b"\x22" * 48, expires=NOW + 365 * DAY)


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (31 * DAY, None), (30 * DAY, 30), (8 * DAY, 30), (7 * DAY, 7), (25 * timedelta(hours=1), 7), (DAY, 1),
        (timedelta(seconds=1), 1), (timedelta(0), ENDED), (-DAY, ENDED),
    ],
)  # fmt: skip
def test_what_lives_long_is_due_thirty_seven_and_one_days_before_its_end(left: timedelta, expected: int | None) -> None:
    assert due(Expiring("certificate", "c", NOW + left, NOW - 365 * DAY), NOW) == expected


@pytest.mark.parametrize(("life", "left", "expected"), [(30, 29, None), (30, 7, 7), (10, 6, None), (10, 1, 1)])
def test_what_lives_shortly_is_not_always_due(life: int, left: int, expected: int | None) -> None:
    assert due(Expiring("tcb", "t", NOW + left * DAY, NOW + (left - life) * DAY), NOW) == expected


def test_what_cannot_be_read_is_due() -> None:
    assert due(Expiring("certificate", "c", None, problem="no such file"), NOW) == ENDED


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, int]]:
    lines = [getattr(record, FIELDS) for record in caplog.records if record.name == "attest.expiry"]
    caplog.clear()
    return [(line["kind"], line["name"], line["days"]) for line in lines]


def test_each_threshold_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = ServiceWorld(tmp_path / "service")
    world.add_reference(NEXT)
    watch = ExpiryWatch(world.service, lambda: world.now)
    heard = []
    for day in range(370):
        world.now = NOW + day * DAY
        watch.look()
        heard += [(day, *line) for line in said(caplog)]
    assert heard == [
        (335, "reference", "web-2", 30),
        (358, "reference", "web-2", 7),
        (364, "reference", "web-2", 1),
        (365, "reference", "web-2", ENDED),
    ]


def test_everything_that_can_end_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind stands once in the list, with the end its own file or row has."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    world = furnished(tmp_path)
    ends = {item.kind: item.expires for item in expiries_of(world.service).at(NOW)}
    assert set(ends) == {
        "certificate", "token-key", "reference", "advisory", "approval", "amd-certificate", "amd-crl",
        "amd-vcek", "amd-chain", "intel-certificate", "intel-crl", "intel-tcb-info", "intel-qe-identity",
    }  # fmt: skip
    assert ends["reference"] == NOW + 365 * DAY
    assert ends["advisory"] == datetime(2027, 2, 1, tzinfo=UTC)
    assert ends["approval"] == NOW + timedelta(hours=1)
    assert ends["token-key"] == NOW.replace(microsecond=0) + 365 * DAY
    assert None not in ends.values()


def furnished(folder: Path) -> ServiceWorld:
    """A service that has one of each."""
    own, intel = folder / "collateral", FakeIntelPki()
    own.mkdir()
    files = (PKI.ark_der, PKI.crl(), intel.root_der, *intel.crl_ders, intel.tcb_info_json, intel.qe_identity_json)
    for number, data in enumerate(files):
        (own / f"{number}").write_bytes(data)
    (folder / "keys").mkdir()
    add_key(folder / "keys", NOW)
    server = issue_server(make_authority("ca", NOW), ("localhost",), NOW)
    (folder / "server.pem").write_bytes(server.certificate_pem())
    collateral = ServiceCollateral.of(CollateralSettings(folder=own, cache=folder / "cache"))
    world = ServiceWorld(folder / "service", collateral=collateral)
    watched = Watched((("server", folder / "server.pem"),), folder / "keys", timedelta(days=365))
    object.__setattr__(world.service, "watched", watched)
    world.policy(with_advisory(demo_policy()))
    world.add_reference(NEXT)
    with world.database.write() as tx:
        number = tx.exec_driver_sql("SELECT max(seq) FROM audit").scalar_one()
        grants.approve(tx, str(PATH), StoredApproval(number, "release", "olga", NOW, NOW + timedelta(hours=1)))
    with FakeKds(PKI) as kds:
        source, chain = kds.source(folder / "cache"), Wanted(Kind.CHAIN, PKI.product, Family.VCEK)
        for wanted in (chain, kds.leaf):
            source.get(wanted, PKI.anchors, NOW, Budget(source.clock, 5.0), refresh=True)
    return world


def with_advisory(policy: bytes) -> bytes:
    """The policy with one advisory of Intel's allowed through January 2027."""
    entry = '[[tdx.tcb.advisory]]\nid = "INTEL-SA-01397"\nuntil = "2027-01-31"\nreason = "migration only"\n\n'
    return policy.replace(b"[tdx.tcb.statuses]", entry.encode() + b"[tdx.tcb.statuses]")


def test_a_certificate_that_is_gone_is_told_as_unreadable(tmp_path: Path) -> None:
    world = ServiceWorld(tmp_path / "service")
    object.__setattr__(world.service, "watched", Watched((("server", tmp_path / "none.pem"),)))
    (found,) = expiries_of(world.service).at(NOW)
    assert (found.kind, found.name, found.expires) == ("certificate", "server (none.pem)", None)
    assert found.problem is not None and "No such file" in found.problem


def test_a_token_key_counts_from_when_it_signs_and_its_successor_ends_the_warning(tmp_path: Path) -> None:
    world = ServiceWorld(tmp_path / "service")
    (tmp_path / "keys").mkdir()
    add_key(tmp_path / "keys", NOW - 360 * DAY)
    object.__setattr__(world.service, "watched", Watched((), tmp_path / "keys", 365 * DAY))
    (found,) = expiries_of(world.service).at(NOW)
    assert due(found, NOW) == 7
    add_key(tmp_path / "keys", NOW)
    (found,) = expiries_of(world.service).at(NOW)
    assert due(found, NOW) is None


def test_metrics_tell_the_seconds_left_of_each_thing_but_no_path_of_a_resource(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    world = furnished(tmp_path)
    world.now = NOW + DAY
    text = world.admin_app().test_client().get("/metrics").get_data(as_text=True)
    assert f'attest_expiry_seconds{{kind="reference",name="web-2"}} {364 * 86400}' in text
    assert 'kind="certificate",name="server (server.pem)"' in text
    assert str(PATH) not in text


def test_the_verb_lists_what_ends_and_its_exit_code_is_for_monitoring(tmp_path: Path) -> None:
    served = Served(tmp_path / "service").init()
    done = served.attest("expiry", "--json")
    assert done.code == 0, done.err
    kinds = {(item["kind"], item["name"]) for item in json.loads(done.out)["items"]}
    assert {("certificate", "server (server.pem)"), ("token-key", "token.key")} <= kinds
    assert served.attest("expiry", "--within", "36500").code == 10
    old = datetime.now(UTC).timestamp() - 364 * 86400
    os.utime(served.folder / "token.key", (old, old))
    assert served.attest("expiry").code == 10
    text = served.attest("expiry").out
    assert "a day left" in text or "within 7 days" in text


def test_a_bundle_is_looked_into_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    furnished(tmp_path)
    bundle = tmp_path / "site.bundle"
    words = ("--cache", str(tmp_path / "cache"), "--root", str(tmp_path / "collateral" / "0"))
    assert attest_command("collateral", "bundle", "-o", str(bundle), *words).code == 0
    served = Served(tmp_path / "other").init()
    shutil.copy(tmp_path / "collateral" / "0", served.folder / "collateral" / "root")
    done = served.attest("expiry", str(bundle), "--json")
    assert done.code in (0, 10), done.err
    names = [item["name"] for item in json.loads(done.out)["items"]]
    assert sum(name.endswith("in site.bundle") for name in names) == 2
    assert not list((served.folder / "collateral-cache").glob("**/vcek*"))
