"""Launch records: only what a registered host signed gets on record, whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attest.broker import launches, questions
from attest.broker.errors import RequestMalformed
from attest.keys.errors import KeyFileRefused
from attest.keys.statement import LAUNCH, REFERENCE, SignatureRefused, Signed, envelope, sign
from attest.store import blobs, records
from attest.store.errors import AlreadyExists, NotFound
from attest.store.records import Filter
from tests.fakes.served import Served
from tests.fakes.service_world import GOOD, ServiceWorld

KEY, OTHER = Ed25519PrivateKey.from_private_bytes(b"h" * 32), Ed25519PrivateKey.from_private_bytes(b"o" * 32)
STATEMENT = {
    "schema": "cvm.launch-record/1",
    "vm": "web-1",
    "time": "2026-01-01T00:00:00Z",
    "config_sha256": "a1" * 32,
    "firmware_sha256": "b2" * 32,
    "qemu_sha256": "c3" * 32,
    "qemu_version": "11.0.1",
    "measurement": GOOD.hex(),
    "argv": ["qemu-system-x86_64", "-machine", "q35"],
}


def pem(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def signed(statement: Any = None, key: Ed25519PrivateKey = KEY, kind: str = LAUNCH) -> bytes:
    data = json.dumps(STATEMENT if statement is None else statement).encode()
    return envelope(kind, Signed(data, (sign(key, kind, data),)), detached=False)


@pytest.fixture
def world(store: str | None, tmp_path: Path) -> ServiceWorld:
    found = ServiceWorld(tmp_path / "service", store=store)
    launches.add_host(found.database, "h1", pem(KEY), found.by)
    return found


def test_a_launch_is_on_record_and_found_by_vm_and_measurement(world: ServiceWorld) -> None:
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
        ({"measurement": "11"}, "measurement: want 96"),
        ({"argv": []}, "argv: want a list"),
        ({"vm": "../etc"}, "vm: got"),
        ({"extra": 1}, "want the members"),
        ({"qemu_version": 11}, "qemu_version: want text"),
    ],
)
def test_a_statement_that_says_too_little_is_refused(world: ServiceWorld, change: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestMalformed, match=words):
        launches.record_launch(world.database, signed({**STATEMENT, **change}), world.by)


def test_a_host_that_was_retired_is_believed_no_more(world: ServiceWorld) -> None:
    launches.add_host(world.database, "h2", pem(OTHER), world.by)
    launches.retire_host(world.database, "h1", world.by)
    with pytest.raises(SignatureRefused):
        launches.record_launch(world.database, signed(), world.by)
    with pytest.raises(NotFound):
        launches.retire_host(world.database, "h1", world.by)
    with pytest.raises(AlreadyExists):
        launches.add_host(world.database, "h3", pem(KEY), world.by)
    assert [entry["kind"] for entry in world.records()][-3:] == ["host-add", "host-add", "host-retire"]


def test_without_hosts_no_launch_is_believed(tmp_path: Path) -> None:
    world = ServiceWorld(tmp_path / "service")
    with pytest.raises(RequestMalformed, match="no host is registered"):
        launches.record_launch(world.database, signed(), world.by)


@pytest.mark.parametrize(("name", "key"), [("h 1", pem(OTHER)), ("h1", b"rubbish")])
def test_a_name_or_key_that_is_none_is_refused(world: ServiceWorld, name: str, key: bytes) -> None:
    with pytest.raises((RequestMalformed, KeyFileRefused)):
        launches.add_host(world.database, name, key, world.by)


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
    assert served.attest("host", "record", str(tmp_path / "launch.json")).code == 5
    assert served.attest("audit", "verify").code == 0
