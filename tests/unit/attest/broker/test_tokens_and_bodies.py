"""Protocol transcripts: tokens, and bodies that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jwt
import pytest

from attest.keys.signing import make_signing_key
from tests.fakes.kbs_client import KbsError, decode, encode
from tests.fakes.service_world import GOOD, PATH, ServiceWorld


@pytest.fixture
def world(tmp_path: Path, store: str | None) -> ServiceWorld:
    return ServiceWorld(tmp_path / "service", store)


def refused(call: Any) -> KbsError:
    with pytest.raises(KbsError) as caught:
        call()
    return caught.value


def test_the_token_says_what_trustee_says_and_that_the_chip_is_emulated(world: ServiceWorld) -> None:
    client = world.client()
    token = client.handshake()
    header = jwt.get_unverified_header(token)
    keys = client.transport.send("GET", "/.well-known/jwks.json", None, {}).json()
    assert header == {"alg": "ES256", "kid": keys["keys"][0]["kid"], "typ": "JWT"}
    payload = jwt.decode(
        token, jwt.PyJWK(keys["keys"][0]), audience="kbs", algorithms=["ES256"], options={"verify_exp": False, "verify_nbf": False, "verify_iat": False}
    )  # fmt: skip
    cpu = payload["submods"]["cpu0"]
    assert payload["eat_profile"] == "tag:github.com,2024:confidential-containers/Trustee"
    assert payload["exp"] - payload["iat"] == 300
    assert cpu["ear.status"] == "affirming"
    assert cpu["ear.veraison.annotated-evidence"]["snp"]["measurement"] == GOOD.hex()
    assert cpu["ear.veraison.annotated-evidence"]["runtime_data_claims"] == {
        "nonce": client.nonce,
        "tee-pubkey": client.key.jwk,
    }
    assert payload["cvm.emulated"] is True
    assert payload["jti"] == world.records("decision")[-1]["token_id"]


@pytest.mark.parametrize("damage", ["signature", "payload", "algorithm", "foreign", "none"])
def test_a_token_that_is_not_ours_is_refused(world: ServiceWorld, damage: str, tmp_path: Path) -> None:
    client = world.client()
    head, payload, signature = client.handshake().split(".")
    other = make_signing_key(tmp_path / "other.key")
    claims = json.loads(decode(payload))
    longer = encode(json.dumps({**claims, "exp": 2**33}).encode())
    unsigned = encode(b'{"alg":"none"}')
    token = {
        "signature": f"{head}.{payload}.{signature[:-4]}AAAA",
        "payload": f"{head}.{longer}.{signature}",
        "algorithm": jwt.encode(claims, "x" * 64, algorithm="HS256"),
        "foreign": jwt.encode(claims, other.private, algorithm="ES256"),
        "none": f"{unsigned}.{payload}.",
    }[damage]
    client.cookie = None
    assert client.get(f"/resource/{PATH}", token).status == 401


def test_a_body_beyond_the_limit_is_not_read(world: ServiceWorld) -> None:
    client = world.client()
    assert client.post_raw("/auth", b" " * (16 * 1024 + 1)).status == 413
    client.auth()
    assert client.post_raw("/attest", b" " * ((1 << 20) + 1)).status == 413


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"version":"0.4.0","version":"0.4.0"}', b"\xff", b'{"version":1}']
)
def test_a_malformed_body_is_400_with_a_body_the_client_can_parse(world: ServiceWorld, body: bytes) -> None:
    client = world.client()
    client.auth()
    for path in ("/auth", "/attest"):
        reply = client.post_raw(path, body)
        assert reply.status == 400
        assert KbsError(reply).information["code"].startswith("request.")


def test_a_head_request_releases_nothing(world: ServiceWorld) -> None:
    client = world.client()
    client.handshake()
    assert client.transport.send("HEAD", f"/kbs/v0/resource/{PATH}", None, client._cookies()).status == 405
    assert world.records("release") == []


def test_without_a_policy_nothing_is_accepted(world: ServiceWorld) -> None:
    with world.database.write() as tx:
        tx.exec_driver_sql("DELETE FROM settings WHERE name = 'policy_sha256'")
        tx.exec_driver_sql("UPDATE settings SET value = '99' WHERE name = 'generation'")
    assert refused(world.client().handshake).status == 500
    assert world.client().transport.send("GET", "/readyz", None, {}).status == 503


def test_every_nonce_is_another_one(world: ServiceWorld) -> None:
    client = world.client()
    seen = {client.auth() for _ in range(300)}
    assert len(seen) == 300
