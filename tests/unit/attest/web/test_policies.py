"""The policy over the operators' listener: what is put in force there is no less signed and no less whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attest.broker.opening import apply_policy_file, open_database
from attest.broker.operations import By
from attest.broker.policies import apply_policy
from attest.keys.statement import POLICY, REFERENCE, Signed, Signers, envelope, key_id, sign
from attest.settings import load_settings
from tests.fakes.amd_pki import NOW
from tests.fakes.kbs_client import KbsError
from tests.fakes.served import Served, attest_command
from tests.fakes.service_world import AUDITOR, OPERATOR, PATH, SECRET, ServiceWorld, demo_policy
from tests.unit.attest.cli.test_policy_cli import STRICTER, demand, keys

POLICY_URL = "/cvm/v0/policy"
ALICE, BOB, EVE = (Ed25519PrivateKey.generate() for _ in range(3))


@pytest.fixture
def world(tmp_path: Path) -> ServiceWorld:
    return ServiceWorld(tmp_path / "service")


def ask(world: ServiceWorld, path: str, data: bytes | None = None, method: str = "POST", who: Any = OPERATOR) -> Any:
    return world.admin_app(who).test_client().open(POLICY_URL + path, method=method, data=data)


def signed_by(*private: Ed25519PrivateKey, data: bytes = STRICTER, kind: str = POLICY) -> bytes:
    return envelope(kind, Signed(data, tuple(sign(key, kind, data) for key in private)), detached=False)


def demands(world: ServiceWorld, needed: int = 2) -> None:
    known = tuple((key_id(key.public_key()), key.public_key()) for key in (ALICE, BOB))
    world.service = replace(world.service, signers=Signers(known, needed))


def test_a_policy_is_put_in_force_looked_at_and_gone_back_from(world: ServiceWorld) -> None:
    guest = world.client()
    guest.handshake()
    applied = ask(world, "", STRICTER)
    assert (applied.status_code, applied.json["name"], applied.json["version"]) == (200, "stricter", 2)
    with pytest.raises(KbsError):
        world.client().handshake()
    listed = ask(world, "", method="GET", who=AUDITOR).json["versions"]
    assert [(entry["name"], entry["by"], entry["in_force"]) for entry in listed] == [
        ("demo", str(OPERATOR), False),
        ("stricter", str(OPERATOR), True),
    ]
    assert ask(world, "/current", method="GET").json["text"].encode() == STRICTER
    assert ask(world, "/1", method="GET", who=AUDITOR).json["text"].encode() == demo_policy()
    back = ask(world, "/rollback?version=1")
    assert (back.json["name"], back.json["version"]) == ("demo", 3)
    assert world.client().resource(PATH) == SECRET
    assert world.records("policy-apply")[-1]["subject"] == "demo"


@pytest.mark.parametrize("path", ["/0", "/9", "/v1", "/-1", "/newest"])
def test_a_version_that_never_was_is_not_found(world: ServiceWorld, path: str) -> None:
    assert ask(world, path, method="GET").status_code == 404


@pytest.mark.parametrize(
    ("query", "status"), [("", 400), ("?version=x", 400), ("?version=0", 404), ("?version=7", 404)]
)
def test_going_back_names_a_version(world: ServiceWorld, query: str, status: int) -> None:
    assert ask(world, f"/rollback{query}").status_code == status


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"name = 1", STRICTER + b"\nunknown = 1\n"])
def test_a_policy_that_does_not_parse_wholly_changes_nothing(world: ServiceWorld, data: bytes) -> None:
    before = world.records()
    for path in ("", "/check", "/replay"):
        assert ask(world, path, data).status_code == 400, path
    assert world.records() == before


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(STRICTER, id="without signatures"),
        pytest.param(signed_by(ALICE), id="one of two"),
        pytest.param(signed_by(ALICE, ALICE), id="one twice"),
        pytest.param(signed_by(ALICE, EVE), id="one by a stranger"),
        pytest.param(signed_by(ALICE, BOB, kind=REFERENCE), id="signed as something else"),
        pytest.param(
            envelope(
                POLICY, Signed(STRICTER, tuple(sign(key, POLICY, b"other") for key in (ALICE, BOB))), detached=False
            ),
            id="signed over another text",
        ),
        pytest.param(
            envelope(
                POLICY, Signed(STRICTER, tuple(sign(key, POLICY, STRICTER) for key in (ALICE, BOB))), detached=True
            ),
            id="signatures without the policy",
        ),
    ],
)
def test_where_policies_are_signed_the_service_takes_none_with_less(world: ServiceWorld, body: bytes) -> None:
    world.policy(signed_by(ALICE, BOB, data=demo_policy() + b"# signed\n"))
    demands(world)
    before = world.records()
    for path in ("", "/check"):
        refused = ask(world, path, body)
        assert refused.status_code == 400, (path, refused.data)
        assert refused.json["code"].startswith("signature."), refused.json
    assert world.records() == before
    assert ask(world, "/rollback?version=1").json["code"].startswith("signature."), "that version is not signed"
    assert world.service.rules.current().document.name == "demo"


def test_a_signed_policy_is_taken_and_its_signatures_are_on_record(world: ServiceWorld) -> None:
    demands(world)
    body = signed_by(ALICE, BOB)
    checked = ask(world, "/check", body, who=AUDITOR)
    assert (checked.status_code, checked.json["in_force"], len(checked.json["signed_by"])) == (200, False, 2)
    assert len(ask(world, "", body).json["signed_by"]) == 2
    assert world.service.rules.current().document.name == "stricter"
    assert ask(world, "/check", STRICTER).json["in_force"] is True, "its signatures are on record already"


def test_replay_says_what_a_policy_would_have_changed_and_changes_nothing(
    world: ServiceWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.client().handshake()
    before = world.records()
    world.later(hours=1)
    found = ask(world, "/replay", STRICTER, who=AUDITOR).json
    assert found["outcomes"] == [{"before": "affirming", "after": "contraindicated", "count": 1}]
    assert [entry["fails"] for entry in found["changed"]] == [["snp.vmpl"]]
    assert ask(world, "/replay?present-references=1", demo_policy()).json["changed"] == []
    assert ask(world, "/replay?since=2001-01-01&until=2001-01-02", STRICTER).json["decisions"] == 0
    for query in ("since=2030-01-01", "until=soon", "present-references=2"):
        assert ask(world, f"/replay?{query}", STRICTER).status_code == 400, query
    monkeypatch.setattr("attest.web.policies.MAX_REPLAYED", 0)
    refused = ask(world, "/replay", STRICTER)
    assert (refused.status_code, "1 decisions from" in refused.json["detail"]) == (400, True), refused.data
    assert world.records() == before


def test_a_restart_does_not_take_back_what_operators_put_in_force_over_the_service(tmp_path: Path) -> None:
    """The settings' file is older; in a replica too, whose file nobody touched."""
    served = Served(tmp_path / "service").init()
    settings = load_settings(served.config)
    database, by = open_database(settings), By(OPERATOR, NOW)
    apply_policy_file(database, settings, by)
    apply_policy(database, STRICTER, by)
    assert apply_policy_file(database, settings, by).name == "stricter"
    settings.policy.file.write_bytes(settings.policy.file.read_bytes() + b"# edited since\n")
    assert apply_policy_file(database, settings, by).name == "demo", "a file that is new counts"


def test_a_restart_takes_the_file_where_the_policy_in_force_is_not_signed_as_it_must_be(tmp_path: Path) -> None:
    served = Served(tmp_path / "service").init()
    alice, by = keys(served.folder, "alice"), By(OPERATOR, NOW)
    settings = load_settings(served.config)
    database = open_database(settings)
    assert attest_command("policy", "sign", str(settings.policy.file), "--key", str(alice)).code == 0
    apply_policy_file(database, settings, by)
    apply_policy(database, STRICTER, by)
    demand(served, "alice")
    assert apply_policy_file(database, load_settings(served.config), by).name == "demo"
