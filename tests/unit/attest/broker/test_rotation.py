"""The service's part of replacing a disk's key: who may report what, when, and what each step leaves on record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from attest.broker import rotation
from attest.broker.operations import NewResource, delete_resource, put_resource
from attest.broker.rewrapping import rewrap_all
from attest.broker.verify_trail import verify_trail
from attest.keys.master import MasterKeys
from attest.store import records, secrets
from policy.secret import SecretBytes
from tests.fakes.kbs_client import KbsClient, Reply
from tests.fakes.service_world import OPERATOR, PATH, SECRET, ServiceWorld
from tests.unit.attest.broker.test_conditions import ask, attested, named

H1, H2, H3, H4 = ("11" * 32, "22" * 32, "33" * 32, "44" * 32)


@pytest.fixture
def world(tmp_path: Path, store: str | None) -> ServiceWorld:
    made = ServiceWorld(tmp_path / "service", store, busy_seconds=30)
    rotation.record_header(made.database, PATH, H1, made.by)
    return made


def start(world: ServiceWorld) -> int:
    return rotation.start(world.database, world.keys, PATH, None, world.by)


def fetch(client: KbsClient) -> dict[str, Any]:
    """The member ``cvm-disk``, with both keys opened."""
    reply = client.get(f"/resource/{PATH}?cvm-disk=1")
    assert reply.status == 200, reply
    answer = reply.json()
    disk = dict(answer.pop("cvm-disk"))
    disk["key"] = client.key.decrypt(answer)
    if "next" in disk:
        disk["next"] = {**disk["next"], "key": client.key.decrypt(disk["next"]["key"])}
    return disk


def report(client: KbsClient, version: int, header: str, step: str) -> Reply:
    body = json.dumps({"version": version, "header": header, "step": step}).encode()
    headers = {"Cookie": f"kbs-session-id={client.cookie}"}
    return client.transport.send("POST", f"/cvm/v0/disk-report/{PATH}", body, headers)


def said(reply: Reply) -> tuple[int, str]:
    """Status, and the state or the first reason or the code."""
    found = reply.json()
    return reply.status, found.get("state") or (found.get("reasons") or [found["code"]])[0]


def current(world: ServiceWorld) -> int:
    with world.database.read() as tx:
        row = secrets.sealed(tx, PATH)
    assert row is not None
    return row.version


def guest(world: ServiceWorld) -> KbsClient:
    """One that was given both keys."""
    client = attested(world)
    fetch(client)
    return client


def test_both_keys_are_given_until_the_guest_confirms_and_each_step_is_on_record(world: ServiceWorld) -> None:
    assert fetch(attested(world)) == {"version": 1, "headers": [H1], "finish": False, "key": SECRET}
    assert start(world) == 2
    client = attested(world)
    given = fetch(client)
    new = given["next"]["key"]
    assert given["key"] == SECRET
    assert (given["headers"], given["next"]["version"], given["next"]["headers"]) == ([H1], 2, [])
    assert len(new) == len(SECRET)
    assert said(report(client, 2, H2, "will")) == (200, "staged")
    assert fetch(client)["next"]["headers"] == [H2]
    assert (current(world), said(report(client, 2, H2, "has"))) == (1, (200, "confirmed"))
    assert fetch(client) == {"version": 2, "headers": [H2], "finish": True, "key": new}
    assert said(report(client, 2, H3, "will")) == (200, "staged")
    assert said(report(client, 2, H3, "only")) == (200, "finished")
    assert fetch(client) == {"version": 2, "headers": [H3], "finish": False, "key": new}
    outcomes = [entry["outcome"] for entry in world.records("key-rotation")]
    assert outcomes == ["started", "staged", "confirmed", "staged", "finished"]
    with world.database.read() as tx:
        bodies = [json.loads(entry.record)["body"] for entry in records.newest(tx, kind="release")]
        retired = [entry for entry in secrets.entries(tx, history=True) if entry.retired]
    verify_trail(world.database)
    assert [body.get("next_version") for body in bodies] == [None, 2, 2, None, None]
    assert [entry.version for entry in retired] == [1]


def test_a_client_that_does_not_ask_gets_the_key_in_force_and_may_report_nothing(world: ServiceWorld) -> None:
    start(world)
    client = attested(world)
    assert client.resource(PATH) == SECRET
    assert said(report(client, 2, H2, "will")) == (403, "rotation.not-offered")


def test_every_step_done_twice_changes_nothing_the_second_time(world: ServiceWorld) -> None:
    start(world)
    client = guest(world)
    for version, header, step in ((2, H2, "will"), (2, H2, "has"), (2, H3, "will"), (2, H3, "only")):
        assert report(client, version, header, step).status == 200
        count = len(world.records())
        assert said(report(client, version, header, step)) == (200, "known")
        assert len(world.records()) == count


def test_a_late_confirmation_does_not_finish_what_comes_after_it(world: ServiceWorld) -> None:
    """The guest lost the answer, asked again, went on, and the first request arrives only now."""
    start(world)
    client = guest(world)
    for header, step in ((H2, "will"), (H2, "has"), (H3, "will")):
        report(client, 2, header, step)
    assert said(report(client, 2, H2, "has")) == (200, "known")
    assert fetch(client)["headers"] == [H2, H3]


WRONG = [
    ("a header nobody announced", 2, H3, "has", (409, "rotation.state")),
    ("a version that does not wait", 3, H2, "has", (409, "rotation.state")),
    ("the end before the confirmation", 2, H2, "only", (409, "rotation.state")),
    ("another header of the key in force", 1, H4, "has", (409, "rotation.state")),
    ("a version that is no number", 0, H2, "has", (400, "request.malformed")),
    ("a digest cut short", 2, "22", "has", (400, "request.malformed")),
    ("a step nobody knows", 2, H2, "had", (400, "request.malformed")),
]


@pytest.mark.parametrize(("version", "header", "step", "want"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_a_report_that_does_not_fit_changes_nothing(
    world: ServiceWorld, version: int, header: str, step: str, want: tuple[int, str]
) -> None:
    start(world)
    client = guest(world)
    report(client, 2, H2, "will")
    before = world.records()
    assert said(report(client, version, header, step)) == want
    assert (current(world), world.records()) == (1, before)


def test_a_session_that_was_not_given_the_new_key_confirms_nothing(world: ServiceWorld) -> None:
    early = guest(world)
    start(world)
    client = guest(world)
    report(client, 2, H2, "will")
    for other in (early, attested(world)):
        assert said(report(other, 2, H2, "has")) == (403, "rotation.not-offered")
    assert current(world) == 1
    stranger = world.client()
    assert report(stranger, 2, H2, "has").status == 401


def test_another_vm_of_the_same_image_confirms_nothing(world: ServiceWorld) -> None:
    start(world)
    mine, other = named(world, 'vm = "web-1"'), named(world, 'vm = "web-2"')
    for client in (mine, other):
        fetch(client)
    report(mine, 2, H2, "will")
    assert said(report(other, 2, H2, "has")) == (403, "rotation.vm")
    again = named(world, 'vm = "web-1"')
    fetch(again)  # it crashed, came up again, and its disk has the header it announced
    assert said(report(again, 2, H2, "has")) == (200, "confirmed")


def test_a_guest_that_may_not_have_the_key_may_not_report_on_it(world: ServiceWorld) -> None:
    start(world)
    elsewhere = named(world, 'vm = "web-1"\nresources = ["default/other/root"]')
    assert said(report(elsewhere, 2, H2, "will")) == (403, "identity.resources")


def test_conditions_and_a_disabled_key_hold_both_keys_back(world: ServiceWorld) -> None:
    start(world)
    assert ask(world, "disable", "reason=x").status == 200
    reply = attested(world).get(f"/resource/{PATH}?cvm-disk=1")
    assert (reply.status, b"cvm-disk" in reply.body) == (403, False)


def test_giving_up_keeps_every_header_a_guest_may_have_written(world: ServiceWorld) -> None:
    start(world)
    client = guest(world)
    report(client, 2, H2, "will")
    assert rotation.abort(world.database, PATH, world.by) is True
    assert said(report(client, 2, H2, "has"))[0] == 403  # given another version than the one it is about now
    again = guest(world)
    given = fetch(again)
    assert (given["key"], given["version"], given["headers"], given["finish"]) == (SECRET, 1, [H1, H2], True)
    assert "next" not in given
    assert said(report(again, 1, H1, "only")) == (200, "finished")
    assert fetch(again)["headers"] == [H1]
    assert start(world) == 3


def test_what_is_confirmed_cannot_be_given_up_and_only_one_replacement_runs(world: ServiceWorld) -> None:
    start(world)
    with pytest.raises(rotation.RotationState, match="has not ended"):
        start(world)
    client = guest(world)
    report(client, 2, H2, "will")
    report(client, 2, H2, "has")
    with pytest.raises(rotation.RotationState, match="in force already"):
        rotation.abort(world.database, PATH, world.by)
    with pytest.raises(rotation.RotationState, match="has not ended"):
        start(world)


def test_an_operator_ends_what_a_guest_that_never_comes_back_left_open(world: ServiceWorld) -> None:
    start(world)
    client = guest(world)
    report(client, 2, H2, "will")
    report(client, 2, H2, "has")
    rotation.record_header(world.database, PATH, H2, world.by)
    assert said(report(client, 2, H3, "will")) == (409, "rotation.state")
    given = fetch(attested(world))
    assert (given["headers"], given["finish"]) == ([H2], False)
    assert start(world) == 3


def test_a_key_under_replacement_is_not_overwritten_but_may_be_destroyed(world: ServiceWorld) -> None:
    start(world)
    new = NewResource(PATH, SecretBytes(b"n" * 32), replace=True)
    with pytest.raises(rotation.RotationState, match="being replaced"):
        put_resource(world.database, world.keys, new, world.by)
    with pytest.raises(rotation.RotationState, match="has not ended"):
        rotation.record_header(world.database, PATH, None, world.by)
    delete_resource(world.database, PATH, world.by)
    with world.database.read() as tx:
        assert all(entry.retired for entry in secrets.entries(tx, history=True))
        assert secrets.pending(tx, PATH) is None
    with pytest.raises(rotation.RotationState, match="not being replaced"):
        rotation.abort(world.database, PATH, world.by)
    assert put_resource(world.database, world.keys, new, world.by) == 3


def test_a_value_stored_anew_brings_its_header_or_none(world: ServiceWorld) -> None:
    world.put(replace=True)
    assert "cvm-disk" not in attested(world).get(f"/resource/{PATH}?cvm-disk=1").json()
    world.put(replace=True, luks_header=H4)
    assert fetch(attested(world))["headers"] == [H4]


def test_a_master_key_changes_under_a_waiting_key_too(world: ServiceWorld) -> None:
    start(world)
    new = fetch(guest(world))["next"]["key"]
    both = MasterKeys((SecretBytes(b"m" * 32), SecretBytes(b"z" * 32)))
    assert rewrap_all(world.database, both, world.by) == 2
    object.__setattr__(world.service, "master_keys", MasterKeys((SecretBytes(b"z" * 32),)))
    assert fetch(guest(world))["next"]["key"] == new


def test_operators_start_show_and_give_up_over_the_service(world: ServiceWorld) -> None:
    assert ask(world, "rotation", "bytes=64").json()["version"] == 2
    assert ask(world, "rotation").status == 409
    app = world.admin_app().test_client()
    shown = app.get(f"/cvm/v0/resource/{PATH}", base_url="https://kbs.test").get_json()["disk"]
    assert (shown["headers"], shown["rotation"]["state"]) == ([H1], "waiting for the guest")
    assert shown["rotation"]["started_by"] == str(OPERATOR)
    gone = app.delete(f"/cvm/v0/rotation/{PATH}", base_url="https://kbs.test")
    assert (gone.get_json()["state"], gone.get_json()["to_remove"]) == ("given up", False)
    assert ask(world, "luks-header", f"sha256={H2}").status == 200
    assert ask(world, "luks-header", "sha256=22").status == 400
    assert [entry["outcome"] for entry in world.records("luks-header")] == ["recorded", "recorded"]
    assert ask(world, "rotation", "bytes=16").status == 400


def test_the_header_on_record_is_changed_with_the_approvals_of_a_change_only(world: ServiceWorld) -> None:
    assert ask(world, "conditions", body='approval = {need = 1, of = ["otto"]}').status == 200
    assert ask(world, "luks-header", f"sha256={H2}").status == 409
    assert ask(world, "approval", "purpose=change", who="otto").status == 200
    assert ask(world, "luks-header", f"sha256={H2}").status == 200


def test_who_was_only_shown_the_guests_token_reports_nothing(world: ServiceWorld) -> None:
    """A guest shows its token to relying parties; one of them must not have the key erased that opens its disk."""
    start(world)
    client = world.client()
    token = {"Authorization": f"Bearer {client.handshake()}"}
    send = client.transport.send
    assert send("GET", f"/kbs/v0/resource/{PATH}?cvm-disk=1", None, token).status == 200
    body = json.dumps({"version": 2, "header": H2, "step": "will"}).encode()
    fresh = {**token, "Cookie": f"kbs-session-id={'0' * 64}"}
    for headers, code in ((token, "session.refused"), (fresh, "session.expired")):
        assert said(send("POST", f"/cvm/v0/disk-report/{PATH}", body, headers)) == (401, code)
    assert world.records("key-rotation")[-1]["outcome"] == "started"
