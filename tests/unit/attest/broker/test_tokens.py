"""Tokens after they were issued: dialects, discovery, rotation, revocation, introspection."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest

from attest.broker.token import Subject, TokenSettings, issue
from attest.keys.ring import SigningRing, add_key
from attest.keys.signing import ES384, SigningKey, make_signing_key
from policy.claims import claims_json
from policy.decide import decide
from policy.tdx import TcbStatus
from tests.fakes.amd_pki import NOW
from tests.fakes.intel_claims import TD, td
from tests.fakes.kbs_client import KbsError, decode
from tests.fakes.service_world import PATH, SECRET, ServiceWorld, demo_policy
from tests.unit.policy.test_tdx_checks import REFERENCE, policy

UNTIMED = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
ISSUER = "https://kbs.example"


@pytest.fixture
def world(tmp_path: Path, store: str | None) -> ServiceWorld:
    return ServiceWorld(tmp_path / "service", store)


def payload_of(token: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(decode(token.split(".")[1]))
    return found


def get(world: ServiceWorld, path: str) -> Any:
    answer = world.guest_app().test_client().get(path)
    return answer.status_code, answer.json


def with_ring(world: ServiceWorld, folder: Path) -> ServiceWorld:
    """The same service with a folder of signing keys, looked at on every use."""
    ticks = iter(range(10**6))
    ring = SigningRing(folder, clock=lambda: float(next(ticks)))
    world.service = type(world.service)(world.database, world.keys, ring, world.service.token, world.collateral)
    return world


def test_the_two_dialects_say_the_same_and_share_no_name(tmp_path: Path) -> None:
    claims = {}
    for dialect in ("trustee", "ear"):
        world = ServiceWorld(tmp_path / dialect, dialect=dialect)
        client = world.client()
        token = client.handshake()
        assert client.resource(PATH, token) == SECRET
        claims[dialect] = payload_of(token)
    trustee, ear = claims["trustee"], claims["ear"]
    old, new = trustee["submods"]["cpu0"], ear["submods"]["cpu0"]
    assert ear["eat_profile"] == "tag:ietf.org,2026:rats/ear#03"
    assert trustee["eat_profile"] == "tag:github.com,2024:confidential-containers/Trustee"
    assert not any("." in name for name in (*new, *ear) if name.startswith("ear"))
    assert not any(name.startswith("ear_") for name in (*old, *trustee))
    assert new["ear_status"] == old["ear.status"]
    assert new["ear_trustworthiness_vector"] == old["ear.trustworthiness-vector"]
    assert new["ear_appraisal_policy_ids"] == [old["ear.appraisal-policy-id"]]
    assert ear["ear_verifier_id"] == trustee["ear.verifier-id"]
    evidence = new["ear_veraison_annotated_evidence"]
    assert evidence["snp"]["measurement"] == old["ear.veraison.annotated-evidence"]["snp"]["measurement"]
    assert ear["eat_nonce"] == evidence["runtime_data_claims"]["nonce"]


def test_the_trustworthiness_vector_has_all_eight_claims_and_none_worse_than_the_status(world: ServiceWorld) -> None:
    cpu = payload_of(world.client().handshake())["submods"]["cpu0"]
    vector = cpu["ear.trustworthiness-vector"]
    assert set(vector) == {
        "instance-identity", "configuration", "executables", "file-system", "hardware", "runtime-opaque",
        "storage-opaque", "sourced-data",
    }  # fmt: skip
    assert cpu["ear.status"] == "affirming"
    assert all(-32 <= value <= 31 for value in vector.values())


def test_a_token_has_the_claims_under_trustees_names_in_its_dialect_only(tmp_path: Path) -> None:
    found = {}
    for dialect, name in (("trustee", "ear.veraison.annotated-evidence"), ("ear", "ear_veraison_annotated_evidence")):
        token = ServiceWorld(tmp_path / dialect, dialect=dialect).client().handshake()
        found[dialect] = payload_of(token)["submods"]["cpu0"][name]["snp"]
    theirs, ours = found["trustee"], found["ear"]
    assert {name: theirs[name] for name in set(theirs) - set(ours)} == {
        "policy_abi_major": 0, "policy_abi_minor": 0, "policy_smt_allowed": True, "policy_migrate_ma": False,
        "policy_debug_allowed": False, "policy_single_socket": False, "platform_smt_enabled": True,
        "platform_tsme_enabled": False, "reported_tcb_bootloader": 10, "reported_tcb_tee": 0, "reported_tcb_snp": 24,
        "reported_tcb_microcode": 84,
    }  # fmt: skip
    assert all(theirs[name] == value for name, value in ours.items() if name != "report_data")


@pytest.mark.parametrize(
    ("status", "hardware", "said"), [(TcbStatus.UP_TO_DATE, 2, "affirming"), (TcbStatus.OUT_OF_DATE, 32, "warning")]
)
@pytest.mark.parametrize(
    ("dialect", "names"),
    [
        ("trustee", ("ear.status", "ear.trustworthiness-vector", "ear.veraison.annotated-evidence")),
        ("ear", ("ear_status", "ear_trustworthiness_vector", "ear_veraison_annotated_evidence")),
    ],
)
def test_what_our_policy_puts_up_with_is_a_warning_to_others(
    tmp_path: Path, status: TcbStatus, hardware: int, said: str, dialect: str, names: tuple[str, str, str]
) -> None:
    claims = td(tcb__status=status, tcb__platform=status)
    tolerant = (('OutOfDate = "refuse"', 'OutOfDate = "accept"'),)
    decision = decide(claims, policy(*tolerant), (REFERENCE,), now=NOW)
    assert (decision.affirming, decision.trust_vector["hardware"]) == (True, 2), decision.failed
    subject = Subject("tdx", "nonce", {}, claims.tee, claims_json(claims.tee), "00" * 48, "strict")
    settings = TokenSettings("attest", "kbs", timedelta(minutes=5), dialect=dialect)
    key = make_signing_key(tmp_path / "token.key")
    found = payload_of(issue(key, settings, subject, decision, token_id="0" * 32, now=NOW).text)["submods"]["cpu0"]
    assert (found[names[0]], found[names[1]]["hardware"]) == (said, hardware)
    body = found[names[2]]["tdx"]
    assert body["mrtd"] == TD.mrtd.hex()
    assert ("quote" in body and body["quote"]["body"]["mr_td"] == TD.mrtd.hex()) == (dialect == "trustee")


def test_discovery_leads_from_the_issuer_to_a_key_that_verifies_the_token(tmp_path: Path) -> None:
    world = ServiceWorld(tmp_path / "service", issuer=ISSUER)
    status, found = get(world, "/.well-known/openid-configuration")
    assert (status, found["issuer"]) == (200, ISSUER)
    _, keys = get(world, found["jwks_uri"].removeprefix(ISSUER))
    token = world.client().handshake()
    key = next(key for key in keys["keys"] if key["kid"] == jwt.get_unverified_header(token)["kid"])
    payload = jwt.decode(
        token, jwt.PyJWK(key), found["id_token_signing_alg_values_supported"], UNTIMED, audience="kbs", issuer=ISSUER
    )
    assert payload["iss"] == found["issuer"]
    assert "d" not in key


def test_discovery_never_repeats_the_host_header(tmp_path: Path) -> None:
    world = ServiceWorld(tmp_path / "service", issuer=ISSUER)
    answer = world.guest_app().test_client().get("/.well-known/openid-configuration", headers={"Host": "evil.example"})
    assert b"evil" not in answer.get_data()


def test_without_an_https_issuer_there_is_no_discovery(world: ServiceWorld) -> None:
    status, found = get(world, "/.well-known/openid-configuration")
    assert (status, found["code"]) == (404, "resource.unknown")


def test_tokens_of_before_a_rotation_stay_good_and_new_ones_have_the_new_key(
    world: ServiceWorld, tmp_path: Path
) -> None:
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    first = add_key(folder, NOW - timedelta(hours=1))
    with_ring(world, folder)
    old = world.client()
    old_token = old.handshake()
    second = add_key(folder, NOW + timedelta(minutes=1), ES384)
    assert jwt.get_unverified_header(world.client().handshake())["kid"] == first.key.kid
    world.later(minutes=1)
    token = (new := world.client()).handshake()
    assert jwt.get_unverified_header(token) == {"alg": "ES384", "kid": second.key.kid, "typ": "JWT"}
    assert (old.resource(PATH, old_token), new.resource(PATH, token)) == (SECRET, SECRET)
    _, keys = get(world, "/.well-known/jwks.json")
    assert [key["alg"] for key in keys["keys"]] == ["ES256", "ES384"]


def test_a_token_whose_key_was_erased_is_refused(world: ServiceWorld, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    first = add_key(folder, NOW - timedelta(hours=1))
    with_ring(world, folder)
    client = world.client()
    token = client.handshake()
    add_key(folder, NOW)
    assert first.path is not None
    first.path.unlink()
    client.cookie = None
    with pytest.raises(KbsError, match="its key is not known here"):
        client.resource(PATH, token)


@pytest.mark.parametrize("trick", ["no kid", "kid list", "jwk header", "jwk and its kid", "other alg"])
def test_the_header_of_a_token_chooses_neither_key_nor_algorithm(
    world: ServiceWorld, trick: str, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec

    client = world.client()
    claims = payload_of(client.handshake())
    own, stranger = world.signing, ec.generate_private_key(ec.SECP256R1())
    theirs = SigningKey(stranger)
    token = {
        "no kid": lambda: jwt.encode(claims, own.private, algorithm="ES256"),
        "kid list": lambda: _signed(claims, {"alg": "ES256", "kid": [own.kid]}, own.private),
        "jwk header": lambda: jwt.encode(
            claims, stranger, algorithm="ES256", headers={"kid": own.kid, "jwk": {**theirs.jwk}}
        ),
        "jwk and its kid": lambda: jwt.encode(
            claims, stranger, algorithm="ES256", headers={"kid": theirs.kid, "jwk": {**theirs.jwk}}
        ),
        "other alg": lambda: jwt.encode(claims, "k" * 64, algorithm="HS256", headers={"kid": own.kid}),
    }[trick]()
    client.cookie = None
    assert client.get(f"/resource/{PATH}", token).status == 401


def _signed(claims: dict[str, Any], header: dict[str, Any], key: Any) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256

    from tests.fakes.kbs_client import encode

    text = f"{encode(json.dumps(header).encode())}.{encode(json.dumps(claims).encode())}"
    r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(SHA256())))
    return f"{text}.{encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def test_a_revoked_token_and_its_session_end_at_once_and_it_is_on_record(world: ServiceWorld) -> None:
    client, other = world.client(), world.client()
    token, others = client.handshake(), other.handshake()
    token_id = payload_of(token)["jti"]
    admin = world.admin_app().test_client()
    assert admin.delete(f"/cvm/v0/token/{token_id}").status_code == 400, "without a reason"
    for _ in range(2):
        found = admin.delete(f"/cvm/v0/token/{token_id}?reason=stolen")
        assert (found.status_code, found.json["jti"], bool(found.json["revoked"])) == (200, token_id, True)
    for credential in (token, None):
        reply = client.get(f"/resource/{PATH}", credential)
        assert (reply.status, reply.json()["code"]) == (401, "token.revoked")
    assert other.resource(PATH, others) == SECRET
    assert [record["subject"] for record in world.records("token-revoke")] == [token_id]
    _, listed = get(world, "/cvm/v0/revoked-tokens")
    assert listed["revoked"] == [{"jti": token_id, "exp": payload_of(token)["exp"]}]
    world.later(minutes=6)
    assert get(world, "/cvm/v0/revoked-tokens")[1]["revoked"] == [], "an expired token need not be named"
    assert client.resource(PATH) == SECRET, "the guest may attest again"


def test_introspection_says_whether_a_token_counts_and_why_not(world: ServiceWorld) -> None:
    token = world.client().handshake()
    token_id = payload_of(token)["jti"]
    admin = world.admin_app().test_client()

    def ask(text: str) -> tuple[bool, str | None]:
        found = admin.post("/cvm/v0/token/introspect", data=text).json
        return found["active"], found.get("code")

    assert ask(token) == (True, None)
    assert ask(token[:-4] + "AAAA") == (False, "token.refused")
    assert ask("rubbish") == (False, "token.refused")
    assert admin.get(f"/cvm/v0/token/{token_id}").json["references"] == ["web-1"]
    assert admin.get(f"/cvm/v0/token/{'0' * 32}").status_code == 404
    assert admin.get("/cvm/v0/token/x").status_code == 400
    world.policy(demo_policy().replace(b"vmpl = [0]", b"vmpl = [0, 1]"))
    assert ask(token) == (False, "token.outdated")
    fresh = world.client().handshake()
    admin.delete(f"/cvm/v0/token/{payload_of(fresh)['jti']}?reason=x")
    assert ask(fresh) == (False, "token.revoked")
    world.later(minutes=5)
    assert ask(fresh) == (False, "token.expired")
