"""The service and collateral: what it asks for, what it never waits for, and whose fault a missing list is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attest.audit.chain import parse_record
from attest.broker.collateral import ServiceCollateral
from attest.broker.verify_trail import verify_trail
from attest.cli import main
from attest.collateral.folder import CollateralFolder
from attest.collateral.url import KDS_URL
from attest.evidence.amd_certificate import AmdCertificate
from attest.evidence.snp_json import encode_snp_json
from attest.evidence.snp_report import SnpReport
from attest.settings import SettingsInvalid, load_settings
from attest.settings_collateral import CollateralSettings
from attest.store import records
from tests.fakes.amd_pki import NOW, FakeAmdPki
from tests.fakes.kbs_client import KbsClient, KbsError, TeeKey, WsgiTransport
from tests.fakes.kds import FakeKds, Reply
from tests.fakes.service_world import GOOD, PKI, ServiceWorld, demo_policy

STRICT_LISTS = demo_policy().replace(b'revocation = "not-checked"', b'revocation = "good"')


@pytest.fixture
def kds(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKds]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FakeKds(PKI) as service:
        yield service


def make_world(folder: Path, kds: FakeKds | None, *, policy: bytes = STRICT_LISTS, **more: Any) -> ServiceWorld:
    """A service whose folder holds the root the policy names, in front of a key distribution service."""
    own = folder / "collateral"
    own.mkdir()
    (own / "root").write_bytes(PKI.ark_der)
    source = None if kds is None else kds.source(folder / "cache", online=more.pop("online", True))
    clock = {} if kds is None else {"clock": kds.time.clock}
    world = ServiceWorld(folder / "svc", collateral=ServiceCollateral(CollateralFolder(own), source, **more, **clock))
    world.policy(policy)
    return world


def bare(world: ServiceWorld, *, pki: FakeAmdPki = PKI, **fields: int | bytes) -> KbsClient:
    """A guest that sends its report and no certificate."""

    def report(report_data: bytes) -> dict[str, Any]:
        signed = pki.with_(report={"measurement": GOOD, "report_data": report_data, **fields})
        return encode_snp_json(SnpReport.parse(signed.raw), [])

    return KbsClient(WsgiTransport(world.guest_app().test_client(use_cookies=False)), report, TeeKey("P-256"))


def refused(client: KbsClient) -> KbsError:
    """The answer to evidence that does not get a token."""
    with pytest.raises(KbsError) as caught:
        client.handshake()
    return caught.value


def decision(world: ServiceWorld) -> dict[str, Any]:
    """The newest decision on record, as its body; the whole trail must repeat."""
    verify_trail(world.database)
    with world.database.read() as tx:
        record = max(records.newest(tx, kind="decision"), key=lambda entry: entry.seq)
    body: dict[str, Any] = parse_record(record.record, "test")["body"]
    return {"outcome": record.outcome, **body}


def test_a_guest_without_certificates_is_accepted_with_what_the_service_fetches(tmp_path: Path, kds: FakeKds) -> None:
    world = make_world(tmp_path, kds)
    assert bare(world).handshake()
    assert bare(world).handshake()
    assert kds.asked == [kds.leaf.path, kds.chain.path, kds.list.path]
    body = decision(world)
    assert body["outcome"] == "affirming"
    assert len(body["evidence"]["crls"]) == 1


def test_a_guest_whose_host_keeps_certificates_as_pem_is_accepted_and_its_decision_repeats(
    tmp_path: Path, kds: FakeKds
) -> None:
    world = make_world(tmp_path, kds)
    client = bare(world)
    text = x509.load_der_x509_certificate(PKI.leaf_der).public_bytes(Encoding.PEM)
    plain = client.attester
    client.attester = lambda data: {**plain(data), "cert_chain": [{"cert_type": "VCEK", "data": list(text)}]}
    assert client.handshake()
    assert decision(world)["outcome"] == "affirming"
    assert kds.leaf.path not in kds.asked


def test_a_guest_that_sends_its_certificate_costs_no_vcek(tmp_path: Path, kds: FakeKds) -> None:
    world = make_world(tmp_path, kds)
    assert world.client().handshake()
    assert kds.leaf.path not in kds.asked
    assert kds.list.path in kds.asked


def test_a_missing_list_is_our_failure_and_not_the_guests(tmp_path: Path, kds: FakeKds) -> None:
    kds.crl = lambda: PKI.crl(signer="mallory")
    world = make_world(tmp_path, kds)
    error = refused(world.client())
    assert (error.status, error.information["code"]) == (503, "endorsement.crl")
    body = decision(world)
    assert body["outcome"] == "unavailable"
    assert body["failure"]["code"] == "endorsement.crl"
    assert "not signed" in body["evidence"]["not_fetched"][0]
    assert [check["id"] for check in body["decision"]["checks"] if check["outcome"] == "fail"] == ["snp.revocation"]


def test_a_stale_list_is_our_failure_too(tmp_path: Path, kds: FakeKds) -> None:
    world = make_world(tmp_path, kds)
    assert world.client().handshake()
    world.later(days=60)
    kds.always = Reply(status=500)
    error = refused(world.client())
    assert (error.status, error.information["code"]) == (503, "endorsement.crl")
    assert "stale" in decision(world)["failure"]["message"]


def test_a_revoked_chain_is_the_guests_failure(tmp_path: Path, kds: FakeKds) -> None:
    kds.crl = lambda: PKI.crl(revoked=[AmdCertificate.parse(PKI.ask_der).parsed.serial_number])
    world = make_world(tmp_path, kds)
    error = refused(world.client())
    assert (error.status, error.information["reasons"]) == (403, ["revocation"])
    assert decision(world)["outcome"] == "not-genuine"


def test_a_guest_that_fails_another_check_too_is_denied_for_that(tmp_path: Path, kds: FakeKds) -> None:
    kds.always = Reply(status=500)
    world = make_world(tmp_path, kds)
    error = refused(world.client(measurement=b"\x77" * 48))
    assert error.status == 403
    assert "measurement" in error.information["reasons"]
    assert decision(world)["outcome"] == "contraindicated"


def test_a_policy_that_tolerates_an_unchecked_chain_accepts_without_a_list(tmp_path: Path, kds: FakeKds) -> None:
    kds.always = Reply(status=500)
    world = make_world(tmp_path, kds, policy=demo_policy())
    assert world.client().handshake()
    assert decision(world)["evidence"]["not_fetched"]


def test_a_certificate_that_cannot_be_fetched_is_503_and_the_reason_is_on_record(tmp_path: Path, kds: FakeKds) -> None:
    world = make_world(tmp_path, kds)
    other = FakeAmdPki(report={"chip_id": b"\xee" * 64})
    error = refused(bare(world, pki=other, chip_id=b"\xee" * 64))
    assert (error.status, error.information["code"]) == (503, "endorsement.missing")
    assert "404" in decision(world)["evidence"]["not_fetched"][0]


def test_an_outage_costs_one_wait_and_not_one_for_each_guest(tmp_path: Path, kds: FakeKds) -> None:
    kds.always = Reply(status=500)
    world = make_world(tmp_path, kds)
    refused(bare(world))
    asked, slept = len(kds.asked), sum(kds.time.slept)
    assert slept < 12.1
    for _ in range(5):
        refused(bare(world))
    assert len(kds.asked) == asked
    assert sum(kds.time.slept) == slept


def test_evidence_that_answers_another_challenge_asks_nobody(tmp_path: Path, kds: FakeKds) -> None:
    world = make_world(tmp_path, kds)
    assert refused(bare(world, report_data=b"\x01" * 64)).status == 503
    assert kds.asked == []


def test_offline_the_cache_alone_is_used(tmp_path: Path, kds: FakeKds) -> None:
    filled = make_world(tmp_path, kds)
    assert bare(filled).handshake()
    kds.asked.clear()
    (tmp_path / "b").mkdir()
    world = make_world(tmp_path / "b", None)
    source = kds.source(tmp_path / "cache", online=False)
    folder = CollateralFolder(tmp_path / "collateral")
    object.__setattr__(world.service, "collateral", ServiceCollateral(folder, source, clock=kds.time.clock))
    assert bare(world).handshake()
    assert kds.asked == []


def test_amds_own_service_is_not_asked_about_a_chip_maker_that_is_not_amd(tmp_path: Path, kds: FakeKds) -> None:
    source = kds.source(tmp_path / "cache")
    assert source.kds is not None
    object.__setattr__(source.kds, "url", KDS_URL)
    world = make_world(tmp_path, None)
    collateral = ServiceCollateral(CollateralFolder(tmp_path / "collateral"), source, clock=kds.time.clock)
    object.__setattr__(world.service, "collateral", collateral)
    assert refused(world.client()).status == 503
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(("hours", "accepted"), [(47, True), (49, False)])
def test_a_list_may_be_bounded_in_age_although_its_next_update_is_far_away(
    tmp_path: Path, kds: FakeKds, hours: int, accepted: bool
) -> None:
    world = make_world(tmp_path, kds, max_crl_age=timedelta(hours=48))
    assert world.client().handshake()
    kds.always = Reply(status=500)
    world.later(hours=hours)
    if accepted:
        assert world.client().handshake()
        return
    error = refused(world.client())
    assert (error.status, error.information["code"]) == (503, "endorsement.crl")
    body = decision(world)
    assert (body["outcome"], body["decision"]["verdict"]) == ("unavailable", "affirming")


def test_a_list_in_the_operators_own_folder_has_the_age_the_operator_gives_it(tmp_path: Path, kds: FakeKds) -> None:
    world = make_world(tmp_path, kds, max_crl_age=timedelta(hours=1), online=False)
    assert refused(world.client()).status == 503
    (tmp_path / "collateral" / "list").write_bytes(PKI.crl())
    assert world.client().handshake()


def test_a_list_in_the_folder_that_has_ended_lets_no_list_of_the_guests_count(tmp_path: Path, kds: FakeKds) -> None:
    world = make_world(tmp_path, kds, max_crl_age=timedelta(hours=1), online=False)
    day = timedelta(days=1)
    (tmp_path / "collateral" / "list").write_bytes(PKI.crl(this_update=NOW - 30 * day, next_update=NOW - day))
    client = world.client()
    plain, sent = client.attester, PKI.crl(this_update=NOW - 20 * day, next_update=NOW + day)
    entry = {"cert_type": "CRL", "data": list(sent)}
    client.attester = lambda data: (found := plain(data)) | {"cert_chain": [*found["cert_chain"], entry]}
    assert refused(client).status == 503
    (tmp_path / "collateral" / "list").write_bytes(PKI.crl())
    assert client.handshake()


def settings(folder: Path, table: str) -> CollateralSettings:
    """The settings of a new service with another ``[collateral]`` table."""
    policy = folder / "policy"
    policy.write_bytes(demo_policy())
    assert main(["init", str(folder / "svc"), "--policy", str(policy)]) == 0
    path = folder / "svc" / "attest.toml"
    head, _, rest = path.read_text().partition("[collateral]")
    path.write_text(f"{head}[collateral]\n{table}\n[token]{rest.partition('[token]')[2]}")
    return load_settings(path).collateral


def test_the_collateral_table_is_decoded(tmp_path: Path) -> None:
    table = 'folder = "f"\ncache = "c"\nonline = true\nkds_url = "https://kds.example/amd/"\nmax_crl_age_hours = 24'
    folder = tmp_path / "svc"
    assert settings(tmp_path, table) == CollateralSettings(
        folder / "f", folder / "c", online=True, kds_url="https://kds.example/amd", max_crl_age=timedelta(hours=24),
        renew=True,
    )  # fmt: skip


def test_the_timer_that_renews_can_be_left_out(tmp_path: Path) -> None:
    assert not settings(tmp_path, 'cache = "c"\nonline = true\nrenew = false').renew


def test_an_empty_collateral_table_asks_nobody(tmp_path: Path) -> None:
    assert settings(tmp_path, "") == CollateralSettings()


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("online = true", "cache: missing"),
        ('online = "yes"', "online: got"),
        ('kds_url = "ftp://x"', "kds_url: got"),
        ("max_crl_age_hours = 0", "max_crl_age_hours: got 0"),
        ("renew = true", "there is nobody to ask"),
        ('cach = "x"', 'did you mean "cache"'),
    ],
)
def test_a_wrong_collateral_table_is_refused(tmp_path: Path, table: str, problem: str) -> None:
    with pytest.raises(SettingsInvalid, match=problem):
        settings(tmp_path, table)
