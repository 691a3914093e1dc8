"""The agent beside the payload, against the service's own application: interface, secret files, re-attestation."""

from __future__ import annotations

import base64
import http.client
import json
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from attest.attester.cmdline import Orders, SecretOrder, parse_orders
from attest.attester.errors import CommandLineMalformed, Refused, SecretFileFailed
from attest.attester.guest_api import GuestApi, serve
from attest.attester.kbs import KbsClient, token_lifetime
from attest.attester.keeper import Keeper
from attest.attester.resident import Resident
from attest.attester.secret_files import SecretFiles
from attest.attester.session import Pace, Session
from policy.vocab import ResourcePath
from tests.fakes.guest import Recorder
from tests.fakes.service_world import PATH, SECRET, ServiceWorld, evidence, reference
from tests.unit.attest.attester.test_proof import Wire

ALL = ("resource", "token", "evidence")


@pytest.fixture
def world(tmp_path: Path) -> ServiceWorld:
    return ServiceWorld(tmp_path / "world")


def keeper(world: ServiceWorld, clock: list[float] | None = None) -> Keeper:
    wire, ticks = Wire(world), clock or [0.0]
    return Keeper(lambda: Session(KbsClient(wire), "snp", evidence, pace=Pace(patience=0.0)), clock=lambda: ticks[0])


def api(world: ServiceWorld, served: tuple[str, ...] = ALL) -> GuestApi:
    return GuestApi(served, keeper(world), evidence)


def test_a_resource_comes_as_its_bytes(world: ServiceWorld) -> None:
    assert api(world).answer(f"/cdh/resource/{PATH}") == (200, "application/octet-stream", SECRET)


def test_a_token_comes_with_the_key_its_resources_are_wrapped_to(world: ServiceWorld) -> None:
    found = json.loads(api(world).answer("/aa/token?token_type=kbs").body)
    assert token_lifetime(found["token"]) == 300
    load_pem_private_key(found["tee_keypair"].encode(), password=None)


@pytest.mark.parametrize("query", ["runtime_data=abc", "runtime_data=YWJj&encoding=base64"])
def test_evidence_carries_the_runtime_data(world: ServiceWorld, query: str) -> None:
    found = json.loads(api(world).answer(f"/aa/evidence?{query}").body)
    assert bytes(found["attestation_report"]["report_data"]) == b"abc".ljust(64, b"\0")


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/cdh/resource/default/nothing/here", 404),
        ("/cdh/resource/../../etc", 400),
        ("/cdh/resource/a/b/c?x=1", 400),
        ("/aa/token", 400),
        ("/aa/token?token_type=coco_as", 400),
        ("/aa/token?token_type=kbs&token_type=kbs", 400),
        ("/aa/evidence?runtime_data=", 400),
        (f"/aa/evidence?runtime_data={'a' * 65}", 400),
        ("/aa/evidence?runtime_data=!&encoding=base64", 400),
        ("/aa/evidence?runtime_data=a&encoding=hex", 400),
        ("/", 404),
        ("/aa/aael", 404),
    ],
)
def test_what_cannot_be_answered_has_its_status(world: ServiceWorld, target: str, status: int) -> None:
    reply = api(world).answer(target)
    assert (reply.status, "detail" in json.loads(reply.body)) == (status, True)


@pytest.mark.parametrize("target", [f"/cdh/resource/{PATH}", "/aa/token?token_type=kbs", "/aa/evidence?runtime_data=a"])
def test_what_was_not_ordered_does_not_exist(world: ServiceWorld, target: str) -> None:
    assert api(world, ()).answer(target).status == 404


def test_a_refusal_is_403_and_names_no_key(world: ServiceWorld) -> None:
    made = api(world)
    world.retire()
    assert made.answer(f"/cdh/resource/{PATH}").status == 403


def test_only_this_address_is_answered_and_only_get(world: ServiceWorld) -> None:
    server = serve(api(world), port=0)
    port = server.server_address[1]
    try:
        found = {}
        for method, host in (
            ("GET", f"127.0.0.1:{port}"), ("GET", f"localhost:{port}"), ("GET", "evil.example"), ("POST", f"127.0.0.1:{port}"),
        ):  # fmt: skip
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request(method, f"/cdh/resource/{PATH}", headers={"Host": host})
            answer = connection.getresponse()
            found[method, host.partition(":")[0]] = (answer.status, SECRET in answer.read())
            connection.close()
        assert found == {
            ("GET", "127.0.0.1"): (200, True), ("GET", "localhost"): (200, True),
            ("GET", "evil.example"): (421, False), ("POST", "127.0.0.1"): (501, False),
        }  # fmt: skip
        with pytest.raises(OSError, match="in use"):
            serve(api(world), port=port)
    finally:
        server.shutdown()
        server.server_close()


def test_a_token_is_used_for_four_fifths_of_its_life(world: ServiceWorld) -> None:
    clock = [0.0]
    made = keeper(world, clock)
    first = made.token()[0]
    clock[0] = 239.0
    assert made.token()[0] == first
    clock[0] = 241.0
    assert made.token()[0] != first


def test_a_session_the_service_forgot_is_made_anew(world: ServiceWorld) -> None:
    made = keeper(world)
    assert made.resource(PATH).reveal() == SECRET
    world.later(minutes=10)
    assert made.resource(PATH).reveal() == SECRET


ORDER = SecretOrder("password", PATH, os.geteuid(), os.getegid(), 0o440)


def test_files_have_owner_mode_and_content_and_are_replaced_as_a_whole(world: ServiceWorld, tmp_path: Path) -> None:
    files = SecretFiles(tmp_path, (ORDER,))
    files.write(keeper(world).resource)
    first = (tmp_path / "password").stat()
    assert (stat.S_IMODE(first.st_mode), first.st_uid) == (0o440, os.geteuid())
    with (tmp_path / "password").open("rb") as old:
        world.put(value=b"changed", replace=True)
        files.write(keeper(world).resource)
        assert old.read() == SECRET
    assert (tmp_path / "password").read_bytes() == b"changed"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["password"]


def test_a_file_that_cannot_be_written_stops_the_boot(world: ServiceWorld, tmp_path: Path) -> None:
    with pytest.raises(SecretFileFailed, match="password"):
        SecretFiles(tmp_path / "nowhere", (ORDER,)).write(keeper(world).resource)


def test_attested_again_files_follow_and_refused_they_go(world: ServiceWorld, tmp_path: Path) -> None:
    recorder, file = Recorder(), tmp_path / "password"
    resident = Resident(Orders(secrets=(ORDER,), reattest=10), keeper(world), lambda: tmp_path, recorder.status)
    resident._write_files()
    world.put(value=b"changed", replace=True)
    resident.renew()
    assert file.read_bytes() == b"changed"
    world.retire()
    resident.renew()
    assert not file.exists()
    assert b"REFUSED" in recorder.console
    assert b"measurement" in recorder.console
    world.add_reference(reference())
    resident.renew()
    assert file.read_bytes() == b"changed"


def test_a_service_that_is_away_changes_nothing(
    world: ServiceWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    resident = Resident(Orders(secrets=(ORDER,)), keeper(world), lambda: tmp_path, recorder.status)
    resident._write_files()
    from attest.attester.errors import ServiceUnavailable

    def away(*words: object, **more: object) -> None:
        raise ServiceUnavailable("away")

    monkeypatch.setattr(Wire, "send", away)
    resident.renew()
    assert (tmp_path / "password").read_bytes() == SECRET
    assert b"will try later: away" in recorder.console


def test_a_refused_guest_gets_no_files_at_boot(world: ServiceWorld, tmp_path: Path) -> None:
    world.retire()
    resident = Resident(Orders(secrets=(ORDER,)), keeper(world), lambda: tmp_path, Recorder().status)
    with pytest.raises(Refused):
        resident.start(evidence)
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []


CA = base64.b64encode(b"\x30\x81\x80" + bytes(128)).decode()
BASE = f"cvm.service=https://h cvm.ca={CA}"


def test_lasting_orders_are_read() -> None:
    orders = parse_orders(
        f"{BASE} cvm.pin={'a' * 43} cvm.secret=db:a/b/c:10:20:0440 cvm.secret=x:a/b/c cvm.api=resource,token cvm.reattest=60"
    )
    secrets = (SecretOrder("db", ResourcePath("a/b/c"), 10, 20, 0o440), SecretOrder("x", ResourcePath("a/b/c")))
    assert (orders.pins, orders.secrets, orders.api, orders.reattest) == (
        ("a" * 43,),
        secrets,
        ("resource", "token"),
        60,
    )
    assert orders.stays


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("cvm.pin=abc", "43 characters"),
        ("cvm.secret=../x:a/b/c", "want name:"),
        ("cvm.secret=x:a/b", "cvm.secret"),
        ("cvm.secret=x:a/b/c:0:0:4755", "want name:"),
        ("cvm.secret=x:a/b/c cvm.secret=x:a/b/d", "name one file"),
        ("cvm.api=all", "want some of"),
        ("cvm.api=token,token", "want some of"),
        ("cvm.reattest=9", "10 to 86400"),
        (" ".join(f"cvm.pin={'a' * 42}{number}" for number in range(5)), "at most 4"),
    ],
)
def test_a_lasting_order_of_the_wrong_form_stops_the_boot(words: str, text: str) -> None:
    with pytest.raises(CommandLineMalformed, match=text):
        parse_orders(f"{BASE} {words}")


def test_lasting_orders_without_a_service_stop_the_boot() -> None:
    for word in ("cvm.api=token", "cvm.reattest=60", f"cvm.pin={'a' * 43}", "cvm.secret=x:a/b/c"):
        with pytest.raises(CommandLineMalformed, match=r"need cvm\.service"):
            parse_orders(word)
