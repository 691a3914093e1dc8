"""Launch records: only what a registered host signed gets on record, whole."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import text

from attest.audit.errors import AuditBroken
from attest.broker import hosts, launches, lifecycle, questions
from attest.broker.anomalies import anomalies
from attest.broker.errors import RequestMalformed
from attest.broker.launch_questions import launches_of, launches_with, runs
from attest.broker.launch_statement import MAX_LAUNCH
from attest.broker.limits import Limits
from attest.keys.statement import LAUNCH, REFERENCE, SignatureRefused, Signed, envelope, sign
from attest.store import blobs, records
from attest.store.errors import AlreadyExists, NotFound
from attest.store.records import Filter
from tests.fakes.amd_pki import NOW
from tests.fakes.dashboard_world import pages_over
from tests.fakes.kbs_client import Reply
from tests.fakes.served import Served
from tests.fakes.service_world import GOOD, PATH, ServiceWorld
from tests.fakes.service_world import OTHER as OTHER_DIGEST

KEY, OTHER = Ed25519PrivateKey.from_private_bytes(b"h" * 32), Ed25519PrivateKey.from_private_bytes(b"o" * 32)
STATEMENT = {
    "schema": "cvm.launch-record/1",
    "vm": "web-1",
    "time": NOW.isoformat(),
    "config_sha256": "a1" * 32,
    "firmware_sha256": "b2" * 32,
    "qemu_sha256": "c3" * 32,
    "qemu_version": "11.0.1",
    "measurement": GOOD.hex(),
    "argv": ["qemu-system-x86_64", "-machine", "q35"],
}

END = {
    "schema": "cvm.launch-end/1",
    "vm": "web-1",
    "time": NOW.isoformat(),
    "launch_sha256": "d4" * 32,
    "outcome": "attested",
    "reason": "asked to stop",
    "attested": True,
    "up_seconds": 61,
}


def pem(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def signed(statement: Any = None, key: Ed25519PrivateKey = KEY, kind: str = LAUNCH) -> bytes:
    data = json.dumps(STATEMENT if statement is None else statement).encode()
    return envelope(kind, Signed(data, (sign(key, kind, data),)), detached=False)


def with_host(folder: Path, store: str | None = None) -> ServiceWorld:
    found = ServiceWorld(folder, store=store)
    hosts.add_host(found.database, "h1", pem(KEY), found.by)
    return found


@pytest.fixture
def world(tmp_path: Path) -> ServiceWorld:
    return with_host(tmp_path / "service")


@pytest.fixture
def either(store: str | None, tmp_path: Path) -> ServiceWorld:
    """On both databases, for what is more than a refusal."""
    return with_host(tmp_path / "service", store)


def test_a_launch_is_on_record_and_found_by_vm_and_measurement(either: ServiceWorld) -> None:
    world = either
    data = signed()
    launched = launches.record_launch(world.database, data, world.by)
    with world.database.read() as tx:
        for wanted in (Filter(vm="web-1", kinds=("launch",)), Filter(measurement=GOOD.hex(), kinds=("launch",))):
            assert [stored.seq for stored in records.find(tx, wanted)] == [launched.number]
        record = questions.read_record(records.find(tx, Filter(kinds=("launch",)))[0])
        assert blobs.get(tx, bytes.fromhex(record["body"]["envelope"])) == data
    assert record["actor"]["name"] == record["body"]["host"] == "h1"
    assert record["body"]["argv"] == STATEMENT["argv"]
    assert record["body"]["received_from"] == "operator:olga"


def test_how_often_a_vm_went_back_to_a_snapshot_is_on_record_where_its_host_says_so(world: ServiceWorld) -> None:
    for statement in (STATEMENT, {**STATEMENT, "epoch": 2}):
        launches.record_launch(world.database, signed(statement), world.by)
    with world.database.read() as tx:
        told = [questions.read_record(stored)["body"] for stored in records.find(tx, Filter(kinds=("launch",)))]
    assert sorted(body.get("epoch", 0) for body in told) == [0, 2]


@pytest.mark.parametrize("data", [signed(key=OTHER), signed(kind=REFERENCE), json.dumps(STATEMENT).encode()])
def test_what_no_registered_host_signed_as_a_launch_is_refused(world: ServiceWorld, data: bytes) -> None:
    with pytest.raises(SignatureRefused):
        launches.record_launch(world.database, data, world.by)
    assert world.records("launch") == []


def test_a_statement_that_was_changed_is_refused(world: ServiceWorld) -> None:
    document = json.loads(signed())
    document["payload"] = json.loads(signed({**STATEMENT, "vm": "web-2"}))["payload"]
    with pytest.raises(SignatureRefused, match="does not fit"):
        launches.record_launch(world.database, json.dumps(document).encode(), world.by)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"measurement": "11"}, "measurement: got '11', want 96"),
        ({"argv": []}, "argv: got '\\[]', want a list"),
        ({"vm": "../etc"}, "vm: got"),
        ({"extra": 1}, "want the members"),
        ({"epoch": -1}, "epoch: got '-1', want a count"),
        ({"epoch": True}, "epoch: got 'True', want a count"),
        ({"qemu_version": 11}, "qemu_version: got '11', want text"),
        ({"time": "2026-01-01T00:00:00"}, "want a time with its zone"),
        ({"time": "0001-01-01T00:00:00+14:00"}, "want a time with its zone"),
        ({"schema": "cvm.launch/1"}, "want cvm.launch-record/1 or"),
    ],
)
def test_a_statement_that_says_too_little_is_refused(world: ServiceWorld, change: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestMalformed, match=words):
        launches.record_launch(world.database, signed({**STATEMENT, **change}), world.by)


def test_a_statement_that_comes_again_gives_the_same_record_however_it_is_wrapped(either: ServiceWorld) -> None:
    world = either
    first = launches.record_launch(world.database, signed(), world.by)
    wrapped = json.dumps(json.loads(signed()), indent=7).encode()
    for data in (signed(), wrapped):
        again = launches.record_launch(world.database, data, world.by)
        assert (again.number, again.new, first.new) == (first.number, False, True)
    assert len(world.records("launch")) == 1
    other = launches.record_launch(world.database, signed({**STATEMENT, "vm": "web-2"}), world.by)
    assert other.new


def test_one_that_comes_again_after_its_host_was_retired_is_refused(world: ServiceWorld) -> None:
    launches.record_launch(world.database, signed(), world.by)
    hosts.retire_host(world.database, "h1", world.by)
    with pytest.raises(launches.HostRefused, match="h1 is retired"):
        launches.record_launch(world.database, signed(), world.by)


def test_an_end_is_on_record_with_the_launch_it_ends(either: ServiceWorld) -> None:
    world = either
    launched = launches.record_launch(world.database, signed(), world.by)
    digest = hashlib.sha256(json.dumps(STATEMENT).encode()).hexdigest()
    end = {**END, "launch_sha256": digest}
    found = launches.record_launch(world.database, signed(end), world.by)
    unknown = launches.record_launch(world.database, signed({**END, "launch_sha256": "00" * 32}), world.by)
    ends = read(world, "launch-end")
    assert [(end["seq"], end["body"]["launch"]) for end in ends] == [
        (found.number, launched.number),
        (unknown.number, None),
    ]
    assert ends[0]["subject"] == "web-1"


@pytest.mark.parametrize("change", [{"up_seconds": -1}, {"up_seconds": True}, {"attested": 1}, {"measurement": "00"}])
def test_an_end_that_says_too_little_or_too_much_is_refused(world: ServiceWorld, change: dict[str, Any]) -> None:
    with pytest.raises(RequestMalformed):
        launches.record_launch(world.database, signed({**END, **change}), world.by)


def read(world: ServiceWorld, kind: str) -> list[Any]:
    """Records of a kind as they were written."""
    with world.database.read() as tx:
        return [questions.read_record(stored) for stored in records.find(tx, Filter(kinds=(kind,)))]


def told(world: ServiceWorld, end_of: dict[str, Any] | None = None, **changes: Any) -> int:
    """A launch, or the end of one, on record; its number."""
    if end_of is not None:
        digest = hashlib.sha256(json.dumps({**STATEMENT, **end_of}).encode()).hexdigest()
        return launches.record_launch(
            world.database, signed({**END, "launch_sha256": digest, **changes}), world.by
        ).number
    return launches.record_launch(world.database, signed({**STATEMENT, **changes}), world.by).number


def test_launches_of_a_vm_are_put_together_with_their_ends_and_the_guest_that_came(either: ServiceWorld) -> None:
    world = either
    first = told(world)
    world.client().handshake()
    decision = [stored["seq"] for stored in read(world, "decision")][-1]
    told(world, {}, time=(NOW + timedelta(minutes=5)).isoformat())
    lost = told(world, time=(NOW + timedelta(minutes=6)).isoformat())
    last = told(world, time=(NOW + timedelta(minutes=7)).isoformat())
    other = told(world, vm="web-2", measurement=OTHER_DIGEST.hex())
    with world.database.read() as tx:
        found = launches_of(tx, "web-1")
        by_digest = launches_with(tx, OTHER_DIGEST.hex(), 10)
        assert (runs(tx, GOOD.hex()), runs(tx, OTHER_DIGEST.hex()), runs(tx, "55" * 48)) == (True, True, None)
    assert [(item.number, item.state, item.outcome, item.attested) for item in found] == [
        (first, "ended", "attested", decision),
        (lost, "launched-again", None, None),
        (last, "running", None, None),
    ]
    assert [(item.number, item.state) for item in by_digest] == [(other, "running")]
    told(world, {"time": (NOW + timedelta(minutes=7)).isoformat()})
    with world.database.read() as tx:
        assert runs(tx, GOOD.hex()) is False


@pytest.mark.parametrize("change", ["vm = 'web-2'", f"measurement = '{OTHER_DIGEST.hex()}'"])
def test_a_statement_that_is_listed_under_something_else_is_noticed(either: ServiceWorld, change: str) -> None:
    number = told(either)
    with either.database.write() as tx:
        tx.execute(text(f"UPDATE launches SET {change}"))
    with either.database.read() as tx, pytest.raises(AuditBroken, match=f"record {number}: is no statement"):
        if change.startswith("vm"):
            launches_of(tx, "web-2")
        else:
            runs(tx, OTHER_DIGEST.hex())


def test_the_question_is_asked_by_name_and_launches_are_no_changes(world: ServiceWorld) -> None:
    number = told(world)
    told(world, {})
    app = world.admin_app().test_client()
    answer = app.get("/cvm/v0/audit-questions/launches?value=web-1", base_url="https://kbs.test").json["answer"]
    assert [(item["number"], item["host"], item["state"]) for item in answer] == [(number, "h1", "ended")]
    changed = app.get("/cvm/v0/audit-questions/changes", base_url="https://kbs.test").json["answer"]
    assert {item["kind"] for item in changed}.isdisjoint({"launch", "launch-end"})
    nothing = app.get("/cvm/v0/audit-questions/launches?value=web-1&until=2020-01-01", base_url="https://kbs.test")
    assert nothing.json["answer"] == []


def test_the_pages_of_a_vm_say_whether_it_runs_by_its_hosts_word(world: ServiceWorld) -> None:
    pages = pages_over(world).test_client()

    def shown(path: str) -> Any:
        return pages.get(path, headers={"Host": "127.0.0.1"})

    assert [vm["runs"] for vm in shown("/vms.json").json["vms"]] == [None]
    number = told(world)
    assert [vm["runs"] for vm in shown("/vms.json").json["vms"]] == [True]
    text = shown("/vm?name=web-1").text
    assert f"/records/{number}" in text
    assert "running, as far as is known" in text
    assert "web-1 on h1" in text
    told(world, {})
    assert [vm["runs"] for vm in shown("/vms.json").json["vms"]] == [False]
    assert "attested, up 61 s" in shown("/vm?name=web-1").text


def test_a_launch_nobody_attested_after_is_an_anomaly_unless_it_ended(world: ServiceWorld) -> None:
    def kinds() -> list[tuple[str, tuple[int, ...]]]:
        with world.database.read() as tx:
            return [(item.kind, item.numbers) for item in anomalies(tx, world.now)]

    quiet = told(world)
    told(world, vm="web-2", measurement=OTHER_DIGEST.hex())
    told(world, {"vm": "web-2", "measurement": OTHER_DIGEST.hex()})
    assert kinds() == []
    world.now += timedelta(minutes=61)
    assert kinds() == [("silent-launch", (quiet,))]
    other = told(world, time=world.now.isoformat())
    world.client().handshake()
    world.now += timedelta(minutes=61)
    assert kinds() == [("silent-launch", (quiet,))]
    assert other != quiet


def post(world: ServiceWorld, data: bytes) -> Reply:
    answer = world.guest_app().test_client().post("/cvm/v0/launches", data=data, base_url="https://kbs.test")
    return Reply(answer.status_code, dict(answer.headers), answer.get_data())


def test_over_the_network_a_launch_is_on_record_once(world: ServiceWorld) -> None:
    replies = [post(world, signed()).json() for _ in range(2)]
    assert [(reply["host"], reply["new"]) for reply in replies] == [("h1", True), ("h1", False)]
    assert replies[0]["record"] == replies[1]["record"]
    (record,) = read(world, "launch")
    assert record["body"]["received_from"] == "address:127.0.0.1"


def test_over_the_network_who_is_unknown_or_retired_gets_403_and_what_is_malformed_400(world: ServiceWorld) -> None:
    hosts.add_host(world.database, "h2", pem(OTHER), world.by)
    hosts.retire_host(world.database, "h2", world.by)
    stranger = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
    changed = json.loads(signed())
    changed["payload"] = json.loads(signed({**STATEMENT, "vm": "web-2"}))["payload"]
    tried = {
        "unknown": post(world, signed(key=stranger)),
        "retired": post(world, signed(key=OTHER)),
        "changed": post(world, json.dumps(changed).encode()),
        "unsigned": post(world, json.dumps(STATEMENT).encode()),
        "kind": post(world, signed(kind=REFERENCE)),
        "rubbish": post(world, b'{"payloadType": 1'),
        "statement": post(world, signed({**STATEMENT, "vm": ""})),
        "large": post(world, b" " * (MAX_LAUNCH + 1)),
    }
    assert {name: (reply.status, reply.json()["code"]) for name, reply in tried.items()} == {
        "unknown": (403, "host.refused"),
        "retired": (403, "host.retired"),
        "changed": (403, "host.signature"),
        "unsigned": (400, "signature.refused"),
        "kind": (400, "signature.refused"),
        "rubbish": (400, "signature.refused"),
        "statement": (400, "request.malformed"),
        "large": (413, "http.413"),
    }
    assert world.records("launch") == []


def test_a_host_that_tells_too_much_is_told_to_wait(world: ServiceWorld) -> None:
    object.__setattr__(world.service, "limits", Limits.of(0, 0, 64, host_per_minute=4))
    statuses = [post(world, signed({**STATEMENT, "vm": f"web-{n}"})).status for n in range(3)]
    assert statuses == [200, 429, 429]


def test_a_resource_can_want_a_launch_on_record(either: ServiceWorld) -> None:
    world = either
    wanted = b'launch_recorded = {within_minutes = 30, by = ["h1"], releases = 2}'
    lifecycle.set_conditions(world.database, PATH, wanted, world.by)

    def released() -> list[str]:
        client = world.client()
        client.handshake()
        reply = client.get(f"/resource/{PATH}")
        return [] if reply.status == 200 else list(reply.json()["reasons"])

    missing = ["condition.launch-recorded"]
    assert released() == missing
    launches.record_launch(world.database, signed({**STATEMENT, "measurement": OTHER_DIGEST.hex()}), world.by)
    old = (NOW - timedelta(minutes=31)).isoformat()
    launches.record_launch(world.database, signed({**STATEMENT, "time": old}), world.by)
    hosts.add_host(world.database, "h2", pem(OTHER), world.by)
    launches.record_launch(world.database, signed(key=OTHER), world.by)
    assert released() == missing
    launches.record_launch(world.database, signed(), world.by)
    assert [released() for _ in range(3)] == [[], [], missing]
    lifecycle.break_glass(world.database, PATH, "night shift", 5, world.by)
    assert released() == []


def test_a_host_whose_clock_is_ahead_does_not_make_its_launch_count_longer(world: ServiceWorld) -> None:
    lifecycle.set_conditions(world.database, PATH, b"launch_recorded = {within_minutes = 2}", world.by)
    ahead = (NOW + timedelta(days=1)).isoformat()
    launches.record_launch(world.database, signed({**STATEMENT, "time": ahead}), world.by)
    world.now += timedelta(minutes=3)
    client = world.client()
    client.handshake()
    assert client.get(f"/resource/{PATH}").status == 403


def test_a_host_that_was_retired_is_believed_no_more(world: ServiceWorld) -> None:
    hosts.add_host(world.database, "h2", pem(OTHER), world.by)
    hosts.retire_host(world.database, "h1", world.by)
    with pytest.raises(SignatureRefused):
        launches.record_launch(world.database, signed(), world.by)
    with pytest.raises(NotFound):
        hosts.retire_host(world.database, "h1", world.by)
    with pytest.raises(AlreadyExists):
        hosts.add_host(world.database, "h3", pem(KEY), world.by)
    assert [entry["kind"] for entry in world.records()][-3:] == ["host-add", "host-add", "host-retire"]


def test_without_hosts_no_launch_is_believed(tmp_path: Path) -> None:
    world = ServiceWorld(tmp_path / "service")
    with pytest.raises(launches.HostRefused, match="no registered host"):
        launches.record_launch(world.database, signed(), world.by)


@pytest.mark.parametrize(("name", "key"), [("h 1", pem(OTHER)), ("h1", b"rubbish"), ("h1", b"\xff\n" + pem(OTHER))])
def test_a_name_or_key_that_is_none_is_refused(world: ServiceWorld, name: str, key: bytes) -> None:
    with pytest.raises(RequestMalformed):
        hosts.add_host(world.database, name, key, world.by)


def test_hosts_and_launches_from_the_command_line(tmp_path: Path) -> None:
    served = Served(tmp_path / "service").init()
    (tmp_path / "h1.pem").write_bytes(pem(KEY))
    (tmp_path / "launch.json").write_bytes(signed())
    assert served.attest("host", "add", "h1", str(tmp_path / "h1.pem")).code == 0
    done = served.attest("host", "record", str(tmp_path / "launch.json"), "--json")
    assert json.loads(done.out)["host"] == "h1"
    assert served.attest("host", "retire", "h1").code == 0
    (host,) = json.loads(served.attest("host", "list", "--json").out)["hosts"]
    assert (host["name"], host["retired"] is None) == ("h1", False)
    assert "retired" in served.attest("host", "list").out
    assert served.attest("host", "record", str(tmp_path / "launch.json")).code == 6
    assert served.attest("audit", "verify").code == 0
