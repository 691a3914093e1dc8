"""Release conditions in the service: judged in the transaction of the release, on both databases, on record."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from attest.audit.record import Actor
from attest.broker.verify_trail import verify_trail
from attest.store import records
from tests.fakes.amd_pki import Leaf
from tests.fakes.kbs_client import KbsClient, KbsError, Reply
from tests.fakes.service_world import PATH, PKI, SECRET, ServiceWorld

IDENTITY = "algorithm = \"sha256\"\nversion = \"0.1.0\"\n[data]\n\"cvm-identity.toml\" = '''\n{}'''\n"
OTHER_CHIP = PKI.with_(leaf=Leaf(hwid=b"\xbb" * 64), report={"chip_id": b"\xbb" * 64})


@pytest.fixture
def world(tmp_path: Path, store: str | None) -> ServiceWorld:
    return ServiceWorld(tmp_path / "service", store, busy_seconds=30)


def named(world: ServiceWorld, identity: str, **fields: Any) -> KbsClient:
    """A guest launched with this identity in its init-data, attested."""
    text = IDENTITY.format(identity)
    client = world.client(host_data=hashlib.sha256(text.encode()).digest(), **fields)
    client.auth()
    client.attest({**client.evidence(), "init-data": {"format": "toml", "body": text}})
    return client


def attested(world: ServiceWorld) -> KbsClient:
    client = world.client()
    client.handshake()
    return client


def reasons(client: KbsClient) -> list[str]:
    """Why the resource is refused; empty where it comes."""
    reply = client.get(f"/resource/{PATH}")
    if reply.status == 200:
        assert client.key.decrypt(reply.json()) == SECRET
        return []
    assert reply.status == 403, reply
    return list(reply.json()["reasons"])


def ask(world: ServiceWorld, verb: str, query: str = "", body: str | None = None, who: str = "olga") -> Reply:
    """An operator's POST to a route of the resource."""
    app = world.admin_app(Actor("operator", who, "ab" * 32))
    answer = app.test_client().post(f"/cvm/v0/{verb}/{PATH}?{query}", data=body, base_url="https://kbs.test")
    return Reply(answer.status_code, dict(answer.headers), answer.get_data())


def bodies(world: ServiceWorld, kind: str) -> list[dict[str, Any]]:
    with world.database.read() as tx:
        return [json.loads(entry.record)["body"] for entry in records.newest(tx, kind=kind)]


def test_a_disk_is_released_to_the_vm_it_belongs_to_not_to_another_of_the_same_image(world: ServiceWorld) -> None:
    assert ask(world, "conditions", body='vm = ["web-1"]').status == 200
    assert reasons(named(world, 'vm = "web-1"')) == []
    assert reasons(named(world, 'vm = "web-2"')) == ["condition.vm"]
    assert reasons(attested(world)) == ["condition.vm"]
    assert bodies(world, "release")[-1]["identity"] == {"vm": "web-1", "service": None}
    assert verify_trail(world.database).records > 0


def test_a_vm_gets_only_the_resources_its_init_data_lists(world: ServiceWorld) -> None:
    assert reasons(named(world, f'resources = ["{PATH}"]')) == []
    assert reasons(named(world, 'resources = ["default/web-2/root"]')) == ["identity.resources"]


@pytest.mark.parametrize("identity", ["vm = 1", "host = 'a'", "resources = ['x']", "vm = ''", "vm = ["])
def test_a_guest_with_half_an_identity_is_nobody(world: ServiceWorld, identity: str) -> None:
    with pytest.raises(KbsError) as refused:
        named(world, identity)
    assert refused.value.status == 400


@pytest.mark.parametrize(("limit", "wins"), [("per_hour = 3", 3), ("once = true", 1)])
def test_of_requests_at_once_exactly_as_many_as_allowed_succeed(
    world: ServiceWorld, store: str | None, limit: str, wins: int
) -> None:
    assert ask(world, "conditions", body=limit).status == 200
    clients = [attested(world) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda client: client.get(f"/resource/{PATH}").status, clients))
    assert sorted(statuses) == [200] * wins + [403] * (8 - wins)
    assert len(bodies(world, "release")) == wins
    world.later(hours=1, seconds=1)
    assert reasons(attested(world)) == ([] if "hour" in limit else ["condition.once"])


def test_setting_the_conditions_again_arms_a_single_use_again(world: ServiceWorld) -> None:
    for _ in range(2):
        world.later(seconds=1)
        assert ask(world, "conditions", body="once = true").status == 200
        world.later(seconds=1)
        client = attested(world)
        assert (reasons(client), reasons(client)) == ([], ["condition.once"])


def test_two_named_operators_must_approve_and_their_approval_ends(world: ServiceWorld) -> None:
    assert ask(world, "conditions", body='approval = {need = 2, of = ["olga", "otto"]}').status == 200
    assert reasons(attested(world)) == ["condition.approval"]
    assert ask(world, "approval", "minutes=10").status == 200
    assert ask(world, "approval", "minutes=10").status == 200, "the same operator again"
    assert ask(world, "approval", who="mallory").status == 409
    assert reasons(attested(world)) == ["condition.approval"]
    assert ask(world, "approval", "minutes=5", who="otto").status == 200
    assert reasons(attested(world)) == []
    world.later(minutes=5)
    assert reasons(attested(world)) == ["condition.approval"]


def test_one_operator_cannot_take_away_that_two_must_approve(world: ServiceWorld) -> None:
    assert ask(world, "conditions", body='approval = {need = 2, of = ["olga", "otto"]}').status == 200
    assert ask(world, "conditions", body="").status == 409
    for who in ("olga", "otto"):
        assert ask(world, "approval", "purpose=change", who=who).status == 200
    assert ask(world, "conditions", body="per_hour = 9").status == 200
    assert reasons(attested(world)) == []


def test_an_export_needs_its_own_approvals_and_uses_them_up(world: ServiceWorld) -> None:
    assert ask(world, "export", "reason=audit").status == 409, "no conditions say who approves"
    assert ask(world, "conditions", body='approval = {need = 2, of = ["olga", "otto"]}').status == 200
    for who in ("olga", "otto"):
        assert ask(world, "approval", who=who).status == 200, "of a release"
    assert ask(world, "export", "reason=audit").status == 409
    for who in ("olga", "otto"):
        assert ask(world, "approval", "purpose=export", who=who).status == 200
    assert ask(world, "export").status == 400, "without a reason"
    done = ask(world, "export", "reason=moving+to+another+service")
    assert (done.status, done.body) == (200, SECRET)
    assert ask(world, "export", "reason=audit").status == 409
    (body,) = bodies(world, "resource-export")
    assert body == {"version": 1, "reason": "moving to another service", "approved_by": ["olga", "otto"]}


def test_break_glass_needs_a_reason_waives_for_a_while_and_every_release_names_it(world: ServiceWorld) -> None:
    document = 'vm = ["web-1"]\nper_hour = 1\napproval = {need = 1, of = ["otto"]}'
    assert ask(world, "conditions", body=document).status == 200
    assert ask(world, "break-glass").status == 400
    opened = ask(world, "break-glass", "reason=the+site+burns&minutes=5")
    assert opened.status == 200
    for _ in range(2):
        assert reasons(named(world, 'vm = "web-1"')) == []
    assert reasons(named(world, 'vm = "web-2"')) == ["condition.vm"]
    assert {body["break_glass"] for body in bodies(world, "release")} == {opened.json()["record"]}
    assert bodies(world, "break-glass")[0]["reason"] == "the site burns"
    world.later(minutes=5)
    assert "condition.approval" in reasons(named(world, 'vm = "web-1"'))


def test_a_disabled_resource_goes_to_nobody_until_it_is_enabled(world: ServiceWorld) -> None:
    assert ask(world, "disable", "reason=incident").status == 200
    assert reasons(attested(world)) == ["resource.disabled"]
    assert ask(world, "break-glass", "reason=x").status == 200
    assert reasons(attested(world)) == ["resource.disabled"], "not even by break-glass"
    assert ask(world, "conditions", body="").status == 200
    assert reasons(attested(world)) == ["resource.disabled"], "new conditions do not enable it"
    assert ask(world, "enable", "reason=over").status == 200
    assert reasons(attested(world)) == []


def test_a_clone_on_another_machine_is_refused_until_an_operator_lets_the_vm_move(world: ServiceWorld) -> None:
    assert ask(world, "conditions", body='clones = "refuse"').status == 200
    web: dict[str, Any] = {"identity": 'vm = "web-1"'}
    assert reasons(named(world, **web, report_id=b"\1" * 32)) == []
    clone = named(world, **web, pki=OTHER_CHIP, report_id=b"\2" * 32)
    assert reasons(clone) == ["clone.other-machine"]
    app = world.admin_app().test_client()
    assert app.delete("/cvm/v0/vm/web-1?reason=moved", base_url="https://kbs.test").status_code == 200
    assert reasons(clone) == []


def test_a_launch_that_another_launch_followed_does_not_come_back(world: ServiceWorld) -> None:
    """A restarted VM has a new REPORT_ID. Who shows the old one again never stopped running: there are two."""
    assert ask(world, "conditions", body='clones = "refuse"').status == 200
    first = named(world, 'vm = "web-1"', report_id=b"\1" * 32)
    second = named(world, 'vm = "web-1"', report_id=b"\2" * 32)
    assert (reasons(first), reasons(first), reasons(second)) == ([], [], [])
    assert reasons(first) == ["clone.came-back"]


def test_a_clone_that_is_only_flagged_is_on_record(world: ServiceWorld) -> None:
    assert ask(world, "conditions", body='clones = "flag"').status == 200
    for pki in (PKI, OTHER_CHIP):
        assert reasons(named(world, 'vm = "web-1"', pki=pki)) == []
    assert [body.get("clone_signs") for body in bodies(world, "release")] == [None, ["clone.other-machine"]]
    assert reasons(attested(world)) == ["condition.vm"], "a VM without a name cannot be watched"


def test_a_generated_value_is_as_long_as_asked_and_seen_by_guests_only(world: ServiceWorld) -> None:
    assert ask(world, "generate", "bytes=48").status == 409
    done = ask(world, "generate", "bytes=48&replace=1")
    assert (done.status, set(done.json())) == (200, {"path", "version"})
    assert len(attested(world).resource(PATH)) == 48
    assert ask(world, "generate", "bytes=8&replace=1").status == 400


def test_conditions_that_do_not_parse_change_nothing(world: ServiceWorld) -> None:
    before = world.records()
    assert ask(world, "conditions", body="per_hours = 1").status == 400
    assert world.records() == before


def test_an_operator_sees_conditions_and_who_approves(world: ServiceWorld) -> None:
    assert ask(world, "conditions", body='approval = {need = 1, of = ["olga"]}').status == 200
    assert ask(world, "approval").status == 200
    app = world.admin_app().test_client()
    found = app.get(f"/cvm/v0/resource/{PATH}", base_url="https://kbs.test").json
    assert found["conditions"]["document"] == 'approval = {need = 1, of = ["olga"]}'
    assert [(one["operator"], one["purpose"]) for one in found["approvals"]] == [("olga", "release")]


def test_a_decision_from_before_identities_meets_no_condition_on_them(world: ServiceWorld) -> None:
    client = named(world, 'vm = "web-1"')
    with world.database.write() as tx:
        tx.exec_driver_sql("UPDATE decisions SET facts = NULL")
    assert reasons(client) == []
    assert ask(world, "conditions", body='vm = ["web-1"]').status == 200
    assert reasons(client) == ["condition.vm"]


@pytest.mark.parametrize("behind", [1.0, 30.0])
def test_an_approval_that_was_used_stays_used_where_the_clock_is_behind(world: ServiceWorld, behind: float) -> None:
    """Another replica's clock, or this one's after it was set."""
    assert ask(world, "conditions", body='approval = {need = 1, of = ["olga"]}').status == 200
    assert ask(world, "approval", "purpose=export").status == 200
    world.later(minutes=1)
    assert ask(world, "export", "reason=x").status == 200
    world.later(seconds=-behind)
    assert ask(world, "export", "reason=x").status == 409


def test_a_single_release_is_counted_where_the_clock_is_behind_too(world: ServiceWorld) -> None:
    assert ask(world, "conditions", body="once = true").status == 200
    world.later(seconds=-30)
    assert reasons(attested(world)) == []
    assert reasons(attested(world)) == ["condition.once"]


def test_one_operator_cannot_give_a_guarded_disk_another_key_and_header(world: ServiceWorld) -> None:
    """With both known to somebody a guest would open a disk that was made for it elsewhere."""
    assert ask(world, "conditions", body='approval = {need = 2, of = ["olga", "otto"]}').status == 200
    client = world.admin_app().test_client()
    path, new = f"/kbs/v0/resource/{PATH}", f"replace=1&luks-header={'aa' * 32}"
    before = world.records()
    for answer in (client.post(f"{path}?{new}", data=b"k" * 32), client.delete(path)):
        assert (answer.status_code, answer.json["title"]) == (409, "Approval missing")
    assert ask(world, "generate", "replace=1").status == 409
    assert world.records() == before
    for who in ("olga", "otto"):
        assert ask(world, "approval", "purpose=change", who=who).status == 200
    assert client.post(f"{path}?{new}", data=b"k" * 32).status_code == 200
    assert client.delete(path).status_code == 409, "used up"
