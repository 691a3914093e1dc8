"""Protocol transcripts: what a guest sends, what the service answers, what is on record afterwards."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from policy.snp import TcbVersion
from tests.fakes.amd_pki import Ca, FakeAmdPki, Leaf
from tests.fakes.kbs_client import KbsError, TeeKey
from tests.fakes.service_world import (
    GOOD,
    OTHER,
    PATH,
    SECRET,
    ServiceWorld,
    demo_policy,
    reference,
)


@pytest.fixture
def world(tmp_path: Path, store: str | None) -> ServiceWorld:
    return ServiceWorld(tmp_path / "service", store)


def refused(call: Any) -> KbsError:
    with pytest.raises(KbsError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("kind", ["P-256", "P-521", "RSA"])
def test_a_genuine_guest_gets_its_key_with_every_key_type(world: ServiceWorld, kind: str) -> None:
    client = world.client(kind)
    assert client.resource(PATH) == SECRET
    assert client.handshakes == 1
    assert [record["kind"] for record in world.records()][-2:] == ["decision", "release"]


def test_a_token_alone_fetches_the_resource_as_the_data_hub_does(world: ServiceWorld) -> None:
    client = world.client()
    token = client.handshake()
    client.cookie = None
    assert client.resource(PATH, token) == SECRET


def test_the_same_attestation_sent_twice_is_refused_the_second_time(world: ServiceWorld) -> None:
    client = world.client()
    client.auth()
    body = client.evidence()
    client.attest(body)
    error = refused(lambda: client.attest(body))
    assert (error.status, error.information["code"]) == (401, "session.nonce-used")
    assert "nonce already used" in error.information["detail"]
    assert len(world.records("decision")) == 1


def test_a_refused_attestation_uses_up_its_nonce_as_well(world: ServiceWorld) -> None:
    client = world.client(measurement=OTHER)
    client.auth()
    body = client.evidence()
    assert refused(lambda: client.attest(body)).status == 403
    assert refused(lambda: client.attest(body)).information["code"] == "session.nonce-used"


def test_the_nonce_of_another_session_is_refused_and_neither_is_used_up(world: ServiceWorld) -> None:
    first, second = world.client(), world.client()
    first.auth()
    second.auth()
    first.nonce, own = second.nonce, first.nonce
    error = refused(first.attest)
    assert (error.status, error.information["code"]) == (401, "session.other-nonce")
    first.nonce = own
    first.attest()
    second.attest()


def test_a_stale_nonce_in_the_report_is_not_genuine_even_if_the_body_names_the_fresh_one(world: ServiceWorld) -> None:
    client = world.client()
    client.auth()
    old = client.evidence()
    client.auth()
    fresh = client.evidence()
    fresh["tee-evidence"] = old["tee-evidence"]
    error = refused(lambda: client.attest(fresh))
    assert (error.status, error.information["reasons"]) == (403, ["binding"])
    assert world.records("decision")[-1]["outcome"] == "not-genuine"


def test_a_report_made_for_another_key_is_refused(world: ServiceWorld) -> None:
    client = world.client()
    client.auth()
    body = client.evidence()
    body["runtime-data"]["tee-pubkey"] = TeeKey().jwk
    error = refused(lambda: client.attest(body))
    assert (error.status, error.information["reasons"]) == (403, ["binding"])


def test_the_evidence_of_another_guest_is_refused(world: ServiceWorld) -> None:
    victim, thief = world.client(), world.client()
    victim.auth()
    thief.auth()
    stolen = thief.evidence()
    stolen["tee-evidence"] = victim.evidence()["tee-evidence"]
    assert refused(lambda: thief.attest(stolen)).information["reasons"] == ["binding"]


def test_a_guest_with_another_measurement_is_denied_in_few_words(world: ServiceWorld) -> None:
    error = refused(world.client(measurement=OTHER).handshake)
    assert error.status == 403
    assert error.information["type"].endswith("/PolicyDeny")
    assert error.information["reasons"] == ["measurement"]
    decision = world.records("decision")[-1]
    assert (error.information["decision"], decision["verdict"]) == (decision["number"], "contraindicated")
    assert GOOD.hex() not in json.dumps(error.information), "a guest must not learn what would have been accepted"


def test_a_denied_guest_gets_no_resource_and_no_token(world: ServiceWorld) -> None:
    client = world.client(measurement=OTHER)
    refused(client.handshake)
    assert client.get(f"/resource/{PATH}").status == 401
    assert world.records("release") == []


def test_a_chip_whose_root_the_policy_does_not_name_is_refused(world: ServiceWorld) -> None:
    stranger = FakeAmdPki(ark=Ca(key="stranger"))
    error = refused(world.client(pki=stranger).handshake)
    assert (error.status, error.information["reasons"]) == (403, ["root"])


def test_evidence_without_its_certificate_is_unavailable_not_denied(world: ServiceWorld) -> None:
    client = world.client()
    client.auth()
    body = client.evidence()
    body["tee-evidence"]["primary_evidence"]["cert_chain"] = None
    error = refused(lambda: client.attest(body))
    assert error.status == 503
    assert world.records("decision")[-1]["outcome"] == "unavailable"


def test_a_flipped_bit_in_the_signed_bytes_is_refused(world: ServiceWorld) -> None:
    client = world.client()
    client.auth()
    body = client.evidence()
    primary = body["tee-evidence"]["primary_evidence"]
    del primary["report"]
    primary["attestation_report"]["guest_svn"] ^= 1
    assert refused(lambda: client.attest(body)).information["reasons"] == ["signature"]


def test_unreadable_evidence_is_malformed_and_on_record_by_digest(world: ServiceWorld) -> None:
    client = world.client()
    client.auth()
    body = client.evidence()
    body["tee-evidence"]["primary_evidence"] = {"attestation_report": {"version": 2.5}}
    assert refused(lambda: client.attest(body)).status == 400
    assert world.records("decision")[-1]["outcome"] == "malformed"


def test_another_protocol_version_is_refused_in_the_words_clients_look_for(world: ServiceWorld) -> None:
    client = world.client()
    client.version = "0.3.0"
    error = refused(client.auth)
    assert error.information["detail"] == (
        "KBS Client Protocol Version Mismatch: expect =0.4.0 while the request is 0.3.0 (0.2.0 is served too)"
    )


def test_a_tee_nobody_here_verifies_is_refused_at_once(world: ServiceWorld) -> None:
    client = world.client()
    client.tee = "sample"
    assert (refused(client.auth).status, world.records("decision")) == (400, [])


def test_evidence_of_additional_devices_is_refused_rather_than_ignored(world: ServiceWorld) -> None:
    client = world.client()
    client.auth()
    body = client.evidence()
    body["tee-evidence"]["additional_evidence"] = '{"nvidia":{}}'
    error = refused(lambda: client.attest(body))
    assert (error.status, "nvidia" in error.information["detail"]) == (400, True)


def test_a_challenge_expires(world: ServiceWorld) -> None:
    client = world.client()
    client.auth()
    world.later(minutes=2)
    assert refused(client.attest).information["code"] == "session.expired"


def test_a_session_and_a_token_expire_with_the_decision_and_the_client_attests_again(world: ServiceWorld) -> None:
    client = world.client()
    token = client.handshake()
    world.later(minutes=5)
    assert refused(lambda: client.resource(PATH, token)).status == 401
    assert client.resource(PATH) == SECRET
    assert client.handshakes == 2


def test_a_policy_change_ends_tokens_made_before_it(world: ServiceWorld) -> None:
    client = world.client()
    token = client.handshake()
    world.policy(demo_policy().replace(b"vmpl = [0]", b"vmpl = [1]"))
    assert refused(lambda: client.resource(PATH, token)).information["code"] == "token.outdated"
    assert refused(lambda: client.resource(PATH)).information["reasons"] == ["snp.vmpl"]


def test_what_another_replica_put_in_force_counts_for_the_next_guest_of_this_one(world: ServiceWorld) -> None:
    other = ServiceWorld(world.folder, world.store, again=True)
    assert world.client().resource(PATH) == SECRET
    assert other.client().resource(PATH) == SECRET
    other.policy(demo_policy().replace(b"vmpl = [0]", b"vmpl = [1]"))
    assert refused(lambda: world.client().resource(PATH)).information["reasons"] == ["snp.vmpl"]
    other.policy(demo_policy())
    world.retire()
    assert refused(lambda: other.client().resource(PATH)).status == 403
    other.database.close()


def test_retiring_a_reference_value_ends_what_it_allowed(world: ServiceWorld) -> None:
    client = world.client()
    assert client.resource(PATH) == SECRET
    world.retire()
    error = refused(lambda: client.resource(PATH))
    assert (error.status, error.information["reasons"]) == (403, ["measurement"])


def test_an_unknown_resource_is_404_and_releases_nothing(world: ServiceWorld) -> None:
    client = world.client()
    client.handshake()
    assert refused(lambda: client.resource("default/web-1/other")).status == 404
    assert refused(lambda: client.resource("default/.hidden/x")).status == 400
    assert world.records("release") == []


def test_a_resource_for_one_image_is_not_given_to_another(world: ServiceWorld) -> None:
    world.add_reference(reference("db-1", OTHER))
    world.put(value=b"web only", replace=True, only_for=("web-1",))
    assert world.client().resource(PATH) == b"web only"
    error = refused(lambda: world.client(measurement=OTHER).resource(PATH))
    assert (error.status, error.information["reasons"]) == (403, ["resource.only-for"])
    assert [record["kind"] for record in world.records()][-1] == "release-refused"


def test_an_expired_reference_value_accepts_nobody(world: ServiceWorld) -> None:
    world.retire()
    world.add_reference(reference(expires=world.now))
    assert refused(world.client().handshake).information["reasons"] == ["measurement"]


def test_init_data_must_be_what_the_launch_was_bound_to(world: ServiceWorld) -> None:
    text = 'algorithm = "sha256"\nversion = "0.1.0"\n[data]\n'
    digest = hashlib.sha256(text.encode()).digest()
    for host_data, outcome in ((digest, 200), (bytes(32), 403)):
        client = world.client(host_data=host_data)
        client.auth()
        body = client.evidence()
        body["init-data"] = {"format": "toml", "body": text}
        assert client.post_raw("/attest", json.dumps(body).encode()).status == outcome


def test_a_leaf_for_another_tcb_is_refused(world: ServiceWorld) -> None:
    pki = FakeAmdPki(leaf=Leaf(tcb=TcbVersion(9, 0, 23, 72)))
    assert refused(world.client(pki=pki).handshake).information["reasons"] == ["tcb"]
