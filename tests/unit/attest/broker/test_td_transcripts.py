"""Protocol transcripts of trust domains: what a TD sends, what the service answers, what is on record afterwards."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from attest.audit.errors import AuditBroken
from attest.broker.collateral import ServiceCollateral
from attest.broker.collateral_intel import IntelCollateralService
from attest.broker.verify_trail import verify_trail
from attest.collateral.intel_folder import IntelFolder
from attest.evidence.eventlog import CCEL, parse_event_log
from attest.evidence.eventlog_build import build_event_log
from attest.evidence.intel_certificate import IntelCertificate
from attest.evidence.tdx_json import encode_tdx_json
from attest.verifier.eventlog import replay_rtmrs
from policy.reference import ReferenceValue, reference_to_bytes
from policy.vocab import LaunchDigest, Platform
from tests.fakes.eventlogs import direct_boot
from tests.fakes.intel_pki import NOW, TD, FakeIntelPki
from tests.fakes.kbs_client import KbsClient, KbsError, TeeKey, WsgiTransport
from tests.fakes.service_world import PATH, SECRET, ServiceWorld, demo_policy

RTMRS = tuple(bytes(TD.get(f"rtmr{index}", bytes(48))) for index in range(4))  # type: ignore[arg-type]
INIT_DATA = 'algorithm = "sha384"\nversion = "0.1.0"\n[data]\n'


@dataclass
class TdWorld:
    """A service that trusts a fake Intel, with its collateral in the operator's folder."""

    folder: Path
    store: str | None
    pki: FakeIntelPki = field(default_factory=FakeIntelPki)

    def __post_init__(self) -> None:
        self.collateral = self.folder / "collateral"
        self.collateral.mkdir(parents=True)
        self.supply(self.pki)
        collateral = ServiceCollateral(intel=IntelCollateralService(IntelFolder(self.collateral)))
        self.service = ServiceWorld(self.folder / "service", self.store, now=NOW, collateral=collateral)
        root = IntelCertificate.parse(self.pki.root_der).spki_sha256.hex()
        amd = demo_policy().decode()
        self.service.policy(amd.replace(amd.split('"test:')[1].split('"')[0], root).encode())
        self.register("td-1")

    def supply(self, pki: FakeIntelPki) -> None:
        """Put everything a quote of ``pki`` needs into the folder."""
        files = {"tcb.json": pki.tcb_info_json, "qe.json": pki.qe_identity_json}
        files |= {f"list-{number}.der": der for number, der in enumerate(pki.crl_ders)}
        files |= {f"chain-{number}.der": der for number, der in enumerate(pki.issuer_chain)}
        for name, data in files.items():
            (self.collateral / name).write_bytes(data)

    def register(self, name: str, rtmrs: tuple[bytes | None, ...] = RTMRS) -> None:
        """A reference value of the good TD's MRTD."""
        value = ReferenceValue(name, Platform.EMULATED_TDX, LaunchDigest(bytes(TD["mrtd"])), NOW, rtmrs=rtmrs)  # type: ignore[arg-type]
        self.service.add_reference(reference_to_bytes(value))

    def client(self, pki: FakeIntelPki | None = None, log: bytes | None = None, **fields: int | bytes) -> KbsClient:
        """A TD with fields of its quote changed."""
        chosen = pki or self.pki

        def attester(report_data: bytes) -> dict[str, Any]:
            quote = chosen.with_(td={**chosen.td, "report_data": report_data, **fields}).raw
            return encode_tdx_json(quote, log)

        transport = WsgiTransport(self.service.guest_app().test_client(use_cookies=False))
        return KbsClient(transport, attester, TeeKey("P-256"), tee="tdx")


@pytest.fixture
def world(tmp_path: Path, store: str | None) -> TdWorld:
    return TdWorld(tmp_path / "td", store)


def refused(call: Any) -> KbsError:
    with pytest.raises(KbsError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(("version", "layout"), [(4, "1.0"), (5, "1.0"), (5, "1.5")])
def test_a_genuine_td_gets_its_key(world: TdWorld, version: int, layout: str) -> None:
    assert world.client(world.pki.with_(version=version, layout=layout)).resource(PATH) == SECRET
    decision, release = world.service.records()[-2:]
    assert (decision["kind"], decision["verdict"], release["kind"]) == ("decision", "affirming", "release")
    assert decision["launch_digest"] == bytes(TD["mrtd"]).hex()  # type: ignore[arg-type]
    assert decision["emulated"] is True


def test_the_token_speaks_of_a_td(world: TdWorld) -> None:
    payload = world.client().handshake().split(".")[1]
    cpu = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["submods"]["cpu0"]
    evidence = cpu["ear.veraison.annotated-evidence"]
    assert evidence["tdx"]["mrtd"] == bytes(TD["mrtd"]).hex()  # type: ignore[arg-type]
    assert evidence["init_data"] == bytes(48).hex()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"mrtd": b"\x77" * 48}, "measurement"), ({"rtmr1": b"\x77" * 48}, "measurement"),
        ({"rtmr3": b"\x77" * 48}, "tdx.rtmr3"), ({"td_attributes": 1 << 28 | 1}, "tdx.attributes.debug"),
        ({"td_attributes": 0}, "tdx.attributes.sept-ve-disable"), ({"mrowner": b"\1" * 48}, "tdx.mrowner"),
    ],
)  # fmt: skip
def test_another_td_is_denied_by_name(world: TdWorld, fields: dict[str, Any], reason: str) -> None:
    error = refused(world.client(**fields).handshake)
    assert error.status == 403
    assert reason in error.information["reasons"]
    assert world.service.records("decision")[-1]["verdict"] == "contraindicated"


def test_a_quote_made_for_another_key_or_nonce_is_refused(world: TdWorld) -> None:
    client = world.client()
    client.auth()
    body = client.evidence()
    body["runtime-data"]["tee-pubkey"] = TeeKey().jwk
    assert refused(lambda: client.attest(body)).information["reasons"] == ["binding"]
    client.auth()
    old = client.evidence()
    client.auth()
    fresh = client.evidence() | {"tee-evidence": old["tee-evidence"]}
    assert refused(lambda: client.attest(fresh)).information["reasons"] == ["binding"]


def test_the_same_attestation_sent_twice_is_refused_the_second_time(world: TdWorld) -> None:
    client = world.client()
    client.auth()
    body = client.evidence()
    client.attest(body)
    assert refused(lambda: client.attest(body)).information["code"] == "session.nonce-used"


def test_a_platform_under_another_root_is_refused(world: TdWorld) -> None:
    stranger = FakeIntelPki(certificates={"ROOT": {"key": "stranger"}})
    assert refused(world.client(stranger).handshake).information["reasons"] == ["root"]


def test_a_quote_signed_by_another_key_is_refused(world: TdWorld) -> None:
    stranger = world.pki.with_(pck_signs_with="somebody")
    assert refused(world.client(stranger).handshake).information["reasons"] == ["qe-report"]


def test_a_revoked_platform_is_refused(world: TdWorld) -> None:
    world.supply(world.pki.with_(crls={"PLATFORM_CA": {"revoked": ["PCK"]}}))
    assert refused(world.client().handshake).information["reasons"] == ["revocation"]


def test_missing_and_expired_collateral_is_unavailable_not_denied(world: TdWorld) -> None:
    (world.collateral / "tcb.json").unlink()
    assert refused(world.client().handshake).status == 503
    world.supply(world.pki)
    world.service.later(days=40)
    assert refused(world.client().handshake).status == 503
    assert world.service.records("decision")[-1]["outcome"] == "unavailable"


def test_without_a_revocation_list_the_service_is_unavailable(world: TdWorld) -> None:
    (world.collateral / "list-1.der").unlink()
    assert refused(world.client().handshake).status == 503


def test_init_data_is_bound_through_mrconfigid(world: TdWorld) -> None:
    digest = hashlib.sha384(INIT_DATA.encode()).digest()
    for mrconfigid, outcome in ((digest, 200), (bytes(48), 403), (digest[:32] + bytes(16), 403)):
        client = world.client(mrconfigid=mrconfigid)
        client.auth()
        body = client.evidence() | {"init-data": {"format": "toml", "body": INIT_DATA}}
        assert client.post_raw("/attest", json.dumps(body).encode()).status == outcome


def test_init_data_of_sha256_is_padded_with_zeros(world: TdWorld) -> None:
    toml = INIT_DATA.replace("sha384", "sha256")
    client = world.client(mrconfigid=hashlib.sha256(toml.encode()).digest() + bytes(16))
    client.auth()
    client.attest(client.evidence() | {"init-data": {"format": "toml", "body": toml}})


def test_a_log_that_replays_becomes_claims_and_is_kept(world: TdWorld) -> None:
    log = build_event_log(direct_boot(), size=65536)
    registers = replay_rtmrs(parse_event_log(log, CCEL))
    world.register("td-log", registers)
    rtmrs = {f"rtmr{index}": value for index, value in enumerate(registers)}
    client = world.client(log=log, **rtmrs)
    payload = client.handshake().split(".")[1]
    cpu = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["submods"]["cpu0"]
    events = cpu["ear.veraison.annotated-evidence"]["tdx"]["events"]
    assert (events["count"], len(events["sha256"])) == (len(direct_boot()), 64)
    changed = build_event_log(direct_boot("console=ttyS0 init=/bin/sh"))
    assert refused(world.client(log=changed, **rtmrs).handshake).information["reasons"] == ["event-log"]
    checked = verify_trail(world.service.database)
    assert (checked.repeated, checked.unrepeatable) == (2, 0)


def test_a_log_that_does_not_replay_is_refused(world: TdWorld, vectors: Path) -> None:
    log = (vectors / "tdx" / "eventlogs" / "ccel-gcp-cos113.bin").read_bytes()
    assert refused(world.client(log=log).handshake).information["reasons"] == ["event-log"]


def test_a_session_is_answered_with_the_evidence_it_was_opened_for(world: TdWorld) -> None:
    client = world.client()
    client.tee = "snp"
    assert refused(client.handshake).status == 400
    assert world.service.records("decision")[-1]["outcome"] == "malformed"


def test_unreadable_quotes_are_malformed_and_on_record(world: TdWorld) -> None:
    client = world.client()
    client.auth()
    body = client.evidence()
    body["tee-evidence"]["primary_evidence"]["quote"] = "AAAA"
    assert refused(lambda: client.attest(body)).status == 400
    assert world.service.records("decision")[-1]["outcome"] == "malformed"


def test_a_secret_for_one_image_is_not_released_to_another_of_the_same_firmware(world: TdWorld) -> None:
    other = (RTMRS[0], b"\xee" * 48, *RTMRS[2:])
    world.register("td-2", other)
    world.service.put(value=b"for the second image", replace=True, only_for=("td-2",))
    client = world.client()
    token = client.handshake()
    assert refused(lambda: client.resource(PATH, token)).status == 403
    second = world.client(rtmr1=other[1])
    assert second.resource(PATH) == b"for the second image"


def test_every_decision_about_a_td_can_be_made_again(world: TdWorld) -> None:
    world.client().handshake()
    refused(world.client(mrtd=b"\x77" * 48).handshake)
    refused(world.client(world.pki.with_(pck_signs_with="somebody")).handshake)
    world.supply(world.pki.with_(crls={"PLATFORM_CA": {"revoked": ["PCK"]}}))
    refused(world.client().handshake)
    checked = verify_trail(world.service.database)
    assert (checked.repeated, checked.unrepeatable) == (4, 0)


def test_a_changed_piece_of_collateral_breaks_the_trail(world: TdWorld) -> None:
    world.client().handshake()
    kept = hashlib.sha256((world.collateral / "list-1.der").read_bytes()).digest()
    with world.service.database.write() as tx:
        tx.execute(text("UPDATE blobs SET data = :data WHERE sha256 = :digest"), {"data": b"x", "digest": kept})
    with pytest.raises(AuditBroken):
        verify_trail(world.service.database)
