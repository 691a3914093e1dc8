"""Protocol transcripts: versions 0.4.0 and 0.2.0 side by side, and what neither lets pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from attest.broker.protocol import VERSIONS
from tests.fakes.kbs_client import KbsClient, KbsError
from tests.fakes.service_world import OTHER, PATH, SECRET, ServiceWorld

BOTH = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture
def world(tmp_path: Path, store: str | None) -> ServiceWorld:
    return ServiceWorld(tmp_path / "service", store)


def guest(world: ServiceWorld, version: str, kind: str = "P-256", **fields: int | bytes) -> KbsClient:
    client = world.client(kind, **fields)
    client.version = version
    return client


def refused(call: Any) -> KbsError:
    with pytest.raises(KbsError) as caught:
        call()
    return caught.value


@BOTH
@pytest.mark.parametrize("kind", ["P-256", "P-521", "RSA"])
def test_a_guest_of_either_version_gets_its_key_with_every_key_type(
    world: ServiceWorld, version: str, kind: str
) -> None:
    client = guest(world, version, kind)
    assert client.resource(PATH) == SECRET
    assert client.handshakes == 1


@BOTH
def test_a_token_of_either_version_fetches_the_resource(world: ServiceWorld, version: str) -> None:
    client = guest(world, version)
    token = client.handshake()
    client.cookie = None
    assert client.resource(PATH, token) == SECRET


@BOTH
def test_a_replay_is_refused_in_either_version(world: ServiceWorld, version: str) -> None:
    client = guest(world, version)
    client.auth()
    body = client.evidence()
    client.attest(body)
    assert refused(lambda: client.attest(body)).information["code"] == "session.nonce-used"


@BOTH
def test_evidence_of_an_older_challenge_is_not_bound_to_the_new_one(world: ServiceWorld, version: str) -> None:
    client = guest(world, version)
    client.auth()
    old = client.evidence()
    client.auth()
    body = client.evidence()
    body["tee-evidence"] = old["tee-evidence"]
    assert refused(lambda: client.attest(body)).information["reasons"] == ["binding"]


@BOTH
def test_a_denied_guest_is_told_403_and_why_by_name_in_either_version(world: ServiceWorld, version: str) -> None:
    error = refused(guest(world, version, measurement=OTHER).handshake)
    assert (error.status, error.information["reasons"]) == (403, ["measurement"])


@pytest.mark.parametrize(("opened", "sent"), [("0.4.0", "0.2.0"), ("0.2.0", "0.4.0")])
def test_a_session_takes_only_the_body_of_the_version_it_was_opened_with(
    world: ServiceWorld, opened: str, sent: str
) -> None:
    client = guest(world, opened)
    client.auth()
    client.version = sent
    error = refused(lambda: client.attest())
    assert (error.status, error.information["code"]) == (401, "session.other-version")
    client.version = opened
    client.attest()  # the refused body has not used the nonce up


def test_a_binding_without_additional_evidence_does_not_pass_for_the_newer_one(world: ServiceWorld) -> None:
    """0.2.0 hashes two members, 0.4.0 three: a report made for one is worth nothing in the other."""
    client = guest(world, "0.4.0")
    client.auth()
    body = client.evidence()
    client.version = "0.2.0"
    body["tee-evidence"]["primary_evidence"] = client.evidence()["tee-evidence"]
    assert refused(lambda: client.attest(body)).information["reasons"] == ["binding"]


def test_composite_evidence_is_refused_with_a_reason_in_the_version_that_has_none(world: ServiceWorld) -> None:
    client = guest(world, "0.2.0")
    client.auth()
    body = client.evidence()
    body["tee-evidence"] = {"primary_evidence": body["tee-evidence"], "additional_evidence": "{}"}
    error = refused(lambda: client.attest(body))
    assert (error.status, error.information["code"]) == (400, "request.unsupported")
    assert "composite evidence is not part of version 0.2.0" in error.information["detail"]


@pytest.mark.parametrize(
    ("devices", "says"),
    [
        ('{"nvidia":{"x":1}}', "device 'nvidia' is not supported"),
        ('{"sample":{}}', "device 'sample' is not supported"),
        ("[]", "want a JSON object"),
        ("{", "additional_evidence"),
        ('{"a":1,"a":2}', "additional_evidence"),
    ],
)
def test_evidence_of_devices_is_refused_and_the_reason_names_it(world: ServiceWorld, devices: str, says: str) -> None:
    client = guest(world, "0.4.0")
    client.auth()
    body = client.evidence()
    body["tee-evidence"]["additional_evidence"] = devices
    error = refused(lambda: client.attest(body))
    assert error.status == 400
    assert says in error.information["detail"]


@pytest.mark.parametrize("version", ["0.1.0", "0.1.1", "0.3.0", "0.4.1", "0.5.0", "", "=0.4.0"])
def test_any_other_version_is_refused_in_the_words_clients_look_for(world: ServiceWorld, version: str) -> None:
    error = refused(guest(world, version).auth)
    assert error.status == 400
    want = f"KBS Client Protocol Version Mismatch: expect =0.4.0 while the request is {version}"
    assert error.information["detail"].startswith(want)


@BOTH
@pytest.mark.parametrize("key", [
    {"kty": "RSA", "alg": "RSA1_5", "n": "AQAB", "e": "AQAB"},
    {"kty": "EC", "crv": "P-384", "alg": "ECDH-ES+A256KW", "x": "AA", "y": "AA"},
    {"kty": "AKP", "alg": "ML-KEM-768+A192KW", "pub": "AA"},
])  # fmt: skip
def test_a_key_nobody_here_wraps_for_is_refused_before_the_nonce_is_used(
    world: ServiceWorld, version: str, key: dict[str, str]
) -> None:
    client = guest(world, version)
    client.auth()
    body = client.evidence()
    wrong = json.loads(json.dumps(body))
    (wrong if version == "0.2.0" else wrong["runtime-data"])["tee-pubkey"] = key
    error = refused(lambda: client.attest(wrong))
    assert (error.status, error.information["code"]) == (400, "request.unsupported")
    client.attest(body)


def test_decisions_of_both_versions_are_decided_again_from_the_record(world: ServiceWorld) -> None:
    from attest.broker.repeat import repeat_decision
    from attest.store import records

    for version in VERSIONS:
        guest(world, version).handshake()
    with world.database.read() as tx:
        found = records.newest(tx, kind="decision")
        assert [repeat_decision(tx, record) for record in found] == [True, True]
