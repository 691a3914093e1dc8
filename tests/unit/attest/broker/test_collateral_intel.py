"""Quotes in the service: Intel's collateral from cache and service, when it is asked and what is said when it fails."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from attest.broker.appraise import Bound, appraise
from attest.broker.collateral import ServiceCollateral
from attest.broker.collateral_intel import IntelCollateralService
from attest.broker.present_tdx import PresentedTd, present_tdx, restore_tdx
from attest.broker.presented import Memory
from attest.collateral.cache import Cache
from attest.collateral.intel_folder import IntelFolder
from attest.collateral.intel_source import PcsSource
from attest.collateral.intel_wanted import Channel
from attest.collateral.limits import Tls
from attest.collateral.pcs_settings import PcsSettings
from attest.collateral.url import PCS_URL
from attest.emulator.td_pki import pem_chain
from attest.evidence.intel_certificate import IntelCertificate
from attest.evidence.tdx_json import encode_tdx_json
from attest.settings import SettingsInvalid
from policy.document import PolicyDocument, parse_policy
from tests.fakes.intel_pki import NOW, PCESVN, PPID, TD, FakeIntelPki
from tests.fakes.kds import Reply
from tests.fakes.pcs import EVERYTHING, FakePcs
from tests.unit.attest.broker.test_collateral import settings

WORLD = FakeIntelPki()
REPORT_DATA = bytes(TD["report_data"])  # type: ignore[arg-type]
DAY = timedelta(days=1)


@pytest.fixture
def pcs(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePcs]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FakePcs(WORLD) as service:
        yield service


def policy(world: FakeIntelPki = WORLD) -> PolicyDocument:
    text = (files("policy") / "documents" / "demo.toml").read_text()
    root = IntelCertificate.parse(world.root_der).spki_sha256.hex()
    return parse_policy(text.replace("@EMULATED_ROOT@", root).encode())


def collateral(pcs: FakePcs, folder: Path, **more: Any) -> ServiceCollateral:
    source = pcs.source(folder / "cache", online=more.pop("online", True))
    own = folder / "own"
    own.mkdir(exist_ok=True)
    return ServiceCollateral(intel=IntelCollateralService(IntelFolder(own), source, clock=pcs.time.clock, **more))


def present(
    at_hand: ServiceCollateral, world: FakeIntelPki = WORLD, report_data: bytes = REPORT_DATA, now: Any = NOW
) -> PresentedTd:
    return present_tdx(encode_tdx_json(world.raw, None), at_hand, policy(), report_data, now)


def test_a_tds_collateral_is_fetched_once_and_verifies_its_quote(pcs: FakePcs, tmp_path: Path) -> None:
    at_hand = collateral(pcs, tmp_path)
    first, second = present(at_hand), present(at_hand)
    assert first.verify(REPORT_DATA, policy(), NOW, Memory()).revocation == "good"
    assert len(pcs.asked) == len(EVERYTHING)
    assert second.collateral is first.collateral
    assert (first.not_fetched, first.list_too_old) == ((), False)


def test_a_quote_that_only_names_its_key_is_verified_with_the_operators_pck_chain_and_again_from_its_record(
    pcs: FakePcs, tmp_path: Path
) -> None:
    name = PPID + bytes(16) + PCESVN.to_bytes(2, "little") + bytes(2)
    world = WORLD.with_(quote={"certification_type": 1, "certification": name})
    at_hand = collateral(pcs, tmp_path)
    assert present(at_hand, world).collateral.tcb_infos == ()
    assert pcs.asked == []
    (tmp_path / "own" / "pck.pem").write_bytes(pem_chain(*WORLD.chain))
    found = present(at_hand, world)
    assert found.verify(REPORT_DATA, policy(), NOW, Memory()).revocation == "good"
    assert len(pcs.asked) == len(EVERYTHING)
    blobs: dict[object, bytes] = {}

    def put(data: bytes) -> bytes:
        digest = hashlib.sha256(data).digest()
        blobs[digest] = data
        return digest

    again = restore_tdx(found.keep(put), blobs.__getitem__)
    assert again.verify(REPORT_DATA, policy(), NOW, Memory()).revocation == "good"


def test_a_quote_for_another_challenge_makes_nobody_be_asked(pcs: FakePcs, tmp_path: Path) -> None:
    present(collateral(pcs, tmp_path), report_data=bytes(64))
    assert pcs.asked == []


@pytest.mark.parametrize(
    "world",
    [WORLD.with_(certificates={"ROOT": {"key": "stranger"}}), WORLD.with_(certificates={"PCK": {"issuer": "ROOT"}})],
)
def test_a_platform_that_somebody_invented_makes_nobody_be_asked(
    pcs: FakePcs, tmp_path: Path, world: FakeIntelPki
) -> None:
    present(collateral(pcs, tmp_path), world)
    assert pcs.asked == []


def test_intels_own_service_is_not_asked_under_a_policy_of_test_roots(pcs: FakePcs, tmp_path: Path) -> None:
    source = PcsSource(Cache(tmp_path, pcs.time.clock), PcsSettings(), pcs.time.clock)
    at_hand = ServiceCollateral(intel=IntelCollateralService(source=source, clock=pcs.time.clock))
    assert present(at_hand).not_fetched == ()
    assert not (tmp_path / "items").exists()


def test_offline_the_cache_alone_is_used(pcs: FakePcs, tmp_path: Path) -> None:
    present(collateral(pcs, tmp_path))
    asked = len(pcs.asked)
    later = present(collateral(pcs, tmp_path, online=False), now=NOW + 20 * DAY)
    assert later.verify(REPORT_DATA, policy(), NOW + 20 * DAY, Memory()).tdx is not None
    assert len(pcs.asked) == asked


def test_what_could_not_be_had_is_on_record(pcs: FakePcs, tmp_path: Path) -> None:
    pcs.always = Reply(status=500)
    found = present(collateral(pcs, tmp_path))
    assert len(found.not_fetched) == len(EVERYTHING)
    assert "answered 500" in found.not_fetched[0]
    kept = found.keep(lambda data: hashlib.sha256(data).digest())
    assert kept["not_fetched"] == list(found.not_fetched)


@pytest.mark.parametrize(("hours", "too_old"), [(47, True), (49, False)])
def test_lists_may_be_bounded_in_age(pcs: FakePcs, tmp_path: Path, hours: int, too_old: bool) -> None:
    document = parse_policy((files("policy") / "documents" / "strict.toml").read_bytes())
    present(collateral(pcs, tmp_path))
    pcs.always = Reply(status=500)
    service = collateral(pcs, tmp_path, max_crl_age=timedelta(hours=hours)).intel
    found = service.for_quote(WORLD.parsed, WORLD.anchors, document, REPORT_DATA, NOW + 2 * DAY)
    assert document.tdx is not None
    assert found.lists_too_old is (too_old and document.tdx.tcb.revocation == "good")
    assert document.tdx.tcb.revocation == "good"


def test_lists_in_the_operators_folder_have_the_age_the_operator_gives_them(pcs: FakePcs, tmp_path: Path) -> None:
    service = collateral(pcs, tmp_path, max_crl_age=timedelta(hours=1), online=False).intel
    (tmp_path / "own" / "list").write_bytes(WORLD.crl("ROOT"))
    document = parse_policy((files("policy") / "documents" / "strict.toml").read_bytes())
    assert not service.for_quote(WORLD.parsed, WORLD.anchors, document, REPORT_DATA, NOW).lists_too_old


def test_collateral_of_the_service_lets_a_td_be_judged_by_its_claims(pcs: FakePcs, tmp_path: Path) -> None:
    found = appraise(
        present(collateral(pcs, tmp_path)), Bound(REPORT_DATA, None), (policy(), ()), now=NOW, memory=Memory()
    )
    assert found.failure is None
    assert found.decision is not None
    assert not [check for check in found.decision.failed if "tcb" in check.id or "revocation" in check.id]


def test_the_settings_of_intel_are_decoded(tmp_path: Path) -> None:
    table = (
        'intel_urls = ["https://pccs.example:8081/", "https://api.trustedservices.intel.com"]\nintel_channel = "19"\n'
        'intel_ca = "pccs.pem"\nintel_root_crl_url = "https://mirror.example/root.der"'
    )
    found = settings(tmp_path, table).pcs
    assert found.urls == ("https://pccs.example:8081", PCS_URL)
    assert found.channel == Channel("number", 19)
    assert found.tls == Tls(ca=tmp_path / "svc" / "pccs.pem")
    assert found.root_crl_url == "https://mirror.example/root.der"


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ('intel_urls = ["ftp://x"]', "intel_urls: got"),
        ("intel_urls = []", "intel_urls: want"),
        ('intel_channel = "late"', "intel_channel: got"),
        ("intel_channel = 19", "intel_channel: got"),
        ('intel_root_crl_url = "x"', "intel_root_crl_url: got"),
    ],
)
def test_wrong_settings_of_intel_are_refused(tmp_path: Path, table: str, problem: str) -> None:
    with pytest.raises(SettingsInvalid, match=problem):
        settings(tmp_path, table)


@pytest.mark.parametrize("online", [True, False])
def test_a_service_is_made_as_its_settings_say(tmp_path: Path, online: bool) -> None:
    table = f'cache = "c"\nonline = {str(online).lower()}\nintel_channel = "early"'
    source = ServiceCollateral.of(settings(tmp_path, table)).intel.source
    assert source is not None
    assert source.channel == Channel("early")
    assert (source.pcs is not None and source.pcs.turn_wait == 4.0) is online
