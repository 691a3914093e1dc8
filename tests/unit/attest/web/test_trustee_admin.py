"""The administration calls of Trustee's own client, with the very requests it makes: paths, headers, bodies, its token."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import attest.broker.rego_engine as engine
from attest.broker.opening import apply_policy_file
from attest.keys.statement import Signers, load_public
from attest.settings import load_settings
from attest.settings_oidc import TrusteeAdminSettings
from attest.web.oidc.caller import token_actor
from attest.web.principals import bearer_or, no_caller
from tests.fakes.kbs_client import KbsError, Reply
from tests.fakes.oidc import FakeProvider
from tests.fakes.served import Served, attest_command
from tests.fakes.service_world import PATH, SECRET, ServiceWorld, demo_policy
from tests.unit.attest.broker.test_rego import HEAD

pytest.importorskip("regorus")

YES = HEAD + 'executables := 3\nhardware := 2\nconfiguration := 2 if "x" in query_reference_value("names")\n'
HOURS = 3600


class KbsAdmin:
    """What ``kbs-client config`` does: a token of two hours without names, JSON as serde writes it."""

    def __init__(self, world: ServiceWorld, provider: FakeProvider | None = None) -> None:
        self.world, self.private = world, Ed25519PrivateKey.generate()
        path = world.folder / "kbs-admin.pub"
        path.write_bytes(self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        by_token = token_actor(None if provider is None else provider.settings(), TrusteeAdminSettings(path))
        assert by_token is not None
        self.client = world.admin_app_for(bearer_or(no_caller, by_token)).test_client()

    def token(self, header: Mapping[str, Any] | None = None, private: Any = None, **changes: Any) -> str:
        now = int(self.world.now.timestamp())
        claims = {"iat": now, "exp": now + 2 * HOURS, "nbf": now, **changes}
        found = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(found, private or self.private, algorithm="EdDSA", headers=dict(header or {}))

    def send(self, method: str, path: str, body: bytes = b"", token: str | None = None) -> Reply:
        headers = {"Authorization": f"Bearer {token or self.token()}", "User-Agent": "kbs-client/0.1.0"}
        answer = self.client.open(f"/kbs/v0/{path}", method=method, data=body, headers=headers)
        return Reply(answer.status_code, dict(answer.headers), answer.get_data())

    def set_attestation_policy(self, text: str, **changes: str) -> Reply:
        policy = base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
        body = {"type": "rego", "policy_id": "default_cpu", "policy": policy, **changes}
        return self.send("POST", "attestation-policy", json.dumps(body).encode())

    def set_resource_policy(self, text: str) -> Reply:
        policy = base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
        return self.send("POST", "resource-policy", json.dumps({"policy": policy}).encode())

    def set_sample_rv(self, name: str, value: Any, **changes: str) -> Reply:
        payload = base64.b64encode(json.dumps({name: value}).encode()).decode()
        body = {"version": "0.1.0", "type": "sample", "payload": payload, **changes}
        return self.send("POST", "reference-value", json.dumps(body).encode())


@pytest.fixture
def world(tmp_path: Path) -> ServiceWorld:
    return ServiceWorld(tmp_path / "service")


@pytest.fixture
def admin(world: ServiceWorld) -> KbsAdmin:
    return KbsAdmin(world)


def denied(world: ServiceWorld) -> list[str]:
    with pytest.raises(KbsError) as caught:
        world.client().resource(PATH)
    return list(caught.value.information["reasons"])


def test_policies_and_values_set_by_the_client_decide(world: ServiceWorld, admin: KbsAdmin) -> None:
    assert admin.send("POST", f"resource/{PATH.replace('web', 'db')}", b"value").status == 200
    assert (admin.set_attestation_policy(YES).status, admin.set_attestation_policy(YES).body) == (200, b"")
    assert denied(world) == ["rego.configuration"]
    assert admin.set_sample_rv("names", ["x", "y"]).status == 200
    assert world.client().resource(PATH) == SECRET
    assert admin.set_resource_policy(HEAD + 'allow if data["resource-path"][1] == "db-1"\n').status == 200
    assert denied(world) == ["rego.resource"]
    assert admin.send("GET", "resource-policy").body.decode().startswith(HEAD)
    assert admin.send("GET", "reference-value").json() == {"names": ["x", "y"]}
    assert admin.send("GET", "reference-value/names").json() == ["x", "y"]
    assert admin.send("GET", "reference-value/other").status == 404
    assert len(world.records("policy-apply")) == 1 + 3
    assert world.service.rules.current().document.raw.startswith(demo_policy())
    assert admin.send("DELETE", f"resource/{PATH.replace('web', 'db')}").status == 200


def test_the_record_says_which_key_it_was(world: ServiceWorld, admin: KbsAdmin) -> None:
    assert admin.set_attestation_policy(YES).status == 200
    with world.database.read() as tx:
        from attest.store import records

        actor = json.loads(records.newest(tx, kind="policy-apply")[-1].record)["actor"]
    assert (actor["kind"], actor["name"], actor["bearer"]["issuer"]) == (
        "operator",
        "trustee-admin",
        "administration key",
    )
    assert len(actor["bearer"]["subject"]) == 64


@pytest.mark.parametrize(
    ("changes", "header", "code"),
    [
        ({"exp": None}, {}, "bearer.claims"),
        ({"iat": None}, {}, "bearer.claims"),
        ({"exp": 1}, {}, "bearer.expired"),
        ({"nbf": 4102444800}, {}, "bearer.early"),
        ({"exp": 4102444800}, {}, "bearer.lifetime"),
        ({}, {"jwk": {"kty": "OKP"}}, "bearer.header"),
        ({}, {"typ": "secevent+jwt"}, "bearer.header"),
    ],
)
def test_a_token_with_one_thing_wrong_is_refused(
    admin: KbsAdmin, changes: dict[str, Any], header: dict[str, Any], code: str
) -> None:
    reply = admin.send("GET", "reference-value", token=admin.token(header, **changes))
    assert (reply.status, reply.json()["code"]) == (401, code)


def test_another_key_another_algorithm_and_a_token_of_ours_are_refused(world: ServiceWorld, admin: KbsAdmin) -> None:
    guest = world.client().handshake()
    hmac = jwt.encode({"iat": 1, "exp": 2}, "x" * 32, algorithm="HS256")
    for token in (admin.token(private=Ed25519PrivateKey.generate()), hmac, guest):
        assert admin.send("GET", "reference-value", token=token).status == 401


def test_beside_a_provider_each_token_goes_to_its_own_check(world: ServiceWorld, tmp_path: Path) -> None:
    with FakeProvider(tmp_path / "oidc") as provider:
        admin = KbsAdmin(world, provider)
        assert admin.send("GET", "reference-value").status == 200
        assert admin.send("GET", "reference-value", token=provider.token(world.now)).status == 200
        forged = admin.token({"kid": "k1"})
        assert admin.send("GET", "reference-value", token=forged).json()["code"] == "bearer.refused"
        assert (
            admin.send("GET", "reference-value", token=provider.token(world.now, kid="k1", header={"kid": None})).status
            == 401
        )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"policy_id": "default_gpu"}, "policy_id 'default_gpu', want default or default_cpu"),
        ({"type": "cedar"}, "type 'cedar', want rego"),
        ({"policy": "%%%"}, "want base64url"),
        (
            {"policy": base64.urlsafe_b64encode(b"package policy\nallow :=").rstrip(b"=").decode()},
            "expecting expression",
        ),
        ({"policy": base64.urlsafe_b64encode(b"allow := true").rstrip(b"=").decode()}, "package policy"),
        (
            {"policy": base64.urlsafe_b64encode(b"package policy\nx := time.now_ns()").rstrip(b"=").decode()},
            "not available",
        ),
        ({"policy": base64.urlsafe_b64encode(b"package policy\n#\xff").rstrip(b"=").decode()}, "not UTF-8"),
        ({"policy": base64.urlsafe_b64encode(b"package policy\n#\x00").rstrip(b"=").decode()}, "not TOML"),
    ],
)
def test_a_policy_that_cannot_be_carried_is_refused_with_the_reason(
    world: ServiceWorld, admin: KbsAdmin, changes: dict[str, str], text: str
) -> None:
    before = world.records()
    reply = admin.set_attestation_policy(YES, **changes)
    assert (reply.status, text in reply.json()["detail"]) == (400, True), reply
    assert world.records() == before


@pytest.mark.parametrize(
    "text", ['x := "a"\n', 'x := `"""`\n', 'x := "\\\\"\n# \\', '# """"""\n# "', "a := 1\r\nb := 2\r\n", "# ä €\n# '''"]
)
def test_text_of_any_kind_comes_back_as_it_was_sent(admin: KbsAdmin, text: str) -> None:
    assert admin.set_resource_policy(HEAD + text).status == 200
    assert admin.send("GET", "resource-policy").body.decode() == HEAD + text


def test_values_nobody_would_look_at_and_other_kinds_are_refused(admin: KbsAdmin) -> None:
    assert "none is in force" in admin.set_sample_rv("a", 1).json()["detail"]
    admin.set_attestation_policy(YES)
    for changes, text in (
        ({"type": "corim"}, "type 'corim'"), ({"version": "0.2.0"}, "version '0.2.0'"), ({"payload": "!"}, "want base64"),
        ({"payload": base64.b64encode(b"[1]").decode()}, "value by name"),
        ({"payload": base64.b64encode(b'{"a":1,"a":2}').decode()}, "appears twice"),
    ):  # fmt: skip
        reply = admin.set_sample_rv("a", 1, **changes)
        assert (reply.status, text in reply.json()["detail"]) == (400, True), reply


def test_without_an_engine_a_policy_is_not_taken(admin: KbsAdmin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "ENGINE", "no_such_engine")
    reply = admin.set_attestation_policy(YES)
    assert (reply.status, reply.json()["code"]) == (400, "rego.absent")


def test_where_policies_are_signed_the_client_changes_nothing(world: ServiceWorld, admin: KbsAdmin) -> None:
    signers = Signers((("k", load_public(world.folder / "kbs-admin.pub")),), 1)
    world.service = replace(world.service, signers=signers)
    again = KbsAdmin(world)
    reply = again.set_attestation_policy(YES)
    assert (reply.status, "must be signed" in reply.json()["detail"]) == (400, True), reply


def test_rego_of_the_file_itself_is_not_overwritten(world: ServiceWorld, admin: KbsAdmin) -> None:
    world.policy(demo_policy() + f"\n[rego]\nresource = '''{HEAD}allow := true\n'''\n".encode())
    reply = admin.set_resource_policy(HEAD + "allow := false\n")
    assert (reply.status, "the file itself has a table [rego]" in reply.json()["detail"]) == (409, True), reply


def test_a_restart_keeps_what_was_set_and_another_file_replaces_it(tmp_path: Path) -> None:
    served = Served(tmp_path / "service").init()
    settings = load_settings(served.config)
    from attest.broker.opening import open_database
    from attest.broker.operations import By
    from attest.broker.rego_documents import Rego
    from tests.fakes.amd_pki import NOW
    from tests.fakes.service_world import OPERATOR

    database, by = open_database(settings), By(OPERATOR, NOW)
    Rego(database, Signers()).set_resource(HEAD + "allow := false\n", by)
    assert apply_policy_file(database, settings, by).rego is not None
    settings.policy.file.write_bytes(settings.policy.file.read_bytes() + b"# changed\n")
    assert apply_policy_file(database, settings, by).rego is None


def test_a_key_that_is_none_is_said_at_the_start(tmp_path: Path) -> None:
    served = Served(tmp_path / "service").init()
    text = served.config.read_text()
    commented = "# [server.trustee_admin]                # tokens signed"
    assert commented in text
    served.config.write_text(
        text.replace(commented, "[server.trustee_admin]  # tokens signed").replace(
            '# key = "kbs-admin.pub"', 'key = "ca.pem"'
        )
    )
    done = attest_command("serve", str(served.config))
    assert (done.code != 0, "Traceback" in done.err) == (True, False), done.err
    assert "ca.pem" in done.err
