"""The real agent and the real emulated chip against the real service in its own process: the three ends of the wire."""

from __future__ import annotations

import hashlib
import select
import ssl
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from attest.attester.agent import Agent
from attest.attester.binding import report_data
from attest.attester.cmdline import DiskOrder, Orders, ServiceAddress
from attest.attester.errors import InitDataRefused, Refused, SecretNotFound, ServiceUntrusted
from attest.attester.https import HttpsTransport, pinned_context
from attest.attester.jwe import GuestKey
from attest.attester.raw_evidence import RawEvidence
from attest.broker.jwe import encrypt
from attest.broker.jwk import parse_tee_pubkey
from attest.emulator.chip import LaunchContext
from attest.evidence.chip_port import ReportRequest
from attest.verifier.binding import report_data_for
from policy.errors import CvmError
from policy.initdata import Identity, write_init_data
from policy.reference import ReferenceValue, reference_to_bytes
from policy.secret import SecretBytes
from policy.vocab import LaunchDigest, Platform, ResourcePath
from tests.fakes.guest import DIGEST, LAUNCH, FakeMachine, Recorder, chip, chip_keys
from tests.fakes.kbs_server import make_ca
from tests.fakes.served import Served, attest_command

KEY = bytes(range(100, 132))
ROOT = ResourcePath("default/demo/root")


class ChipMachine(FakeMachine):
    """Takes its evidence from an emulated chip with ``launch`` in it."""

    def __init__(self, launch: LaunchContext = LAUNCH) -> None:
        super().__init__()
        self.launch = launch

    def evidence(self, report_data: bytes, tee: str, emulated: bool) -> RawEvidence:
        made = chip(self.launch)
        return RawEvidence(made.report(ReportRequest(report_data)), made.certificates, "emulated")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("service")
    service = Served(folder / "service").init(SimpleNamespace(ark_der=chip_keys().ark.public_bytes(Encoding.DER)))
    reference = folder / "demo.ref.json"
    value = ReferenceValue("demo", Platform.EMULATED_SNP, LaunchDigest(DIGEST), datetime.now(UTC))
    reference.write_bytes(reference_to_bytes(value))
    for words, stdin in ((("reference", "add", str(reference)), b""), (("key", "put", str(ROOT)), KEY)):
        done = attest_command(*words, "--config", str(service.config), stdin=stdin)
        assert done.code == 0, done.err
    service.start()
    yield service
    service.stop()


def ask(
    served: Served,
    machine: FakeMachine,
    *,
    resource: ResourcePath = ROOT,
    ca: bytes | None = None,
    init_data: bool = False,
) -> Recorder:
    recorder = Recorder()
    pinned = ca or ssl.PEM_cert_to_DER_cert((served.folder / "ca.pem").read_text())
    address = ServiceAddress("127.0.0.1", served.port)
    disk = DiskOrder("root", resource)
    orders = Orders(service=address, ca=pinned, disks=(disk,), emulated=True, init_data=init_data)
    Agent(orders, machine, recorder.status).work()
    return recorder


def test_a_guest_of_the_reference_value_gets_its_key(served: Served) -> None:
    machine = ChipMachine()
    recorder = ask(served, machine)
    assert machine.keys == {"root": KEY}
    assert recorder.names == ["evidence", "attested", "unlocked"]
    assert recorder.events[1]["detail"] == {"status": "affirming"}


CHANGED = [
    ("another digest", replace(LAUNCH, measurement=LaunchDigest(bytes(48))), "measurement"),
    ("debug allowed", replace(LAUNCH, policy=0xB0000), "debug"),
    ("a migration agent allowed", replace(LAUNCH, policy=0x70000), "migra"),
]


def test_the_agents_connection_is_kept_and_one_that_the_service_ended_is_made_anew(tmp_path: Path) -> None:
    quick = (
        Served(tmp_path / "service", before="import attest.web.arrivals as own; own.IDLE_SECONDS = 0.2").init().start()
    )
    ca = ssl.PEM_cert_to_DER_cert((quick.folder / "ca.pem").read_text())
    transport = HttpsTransport(ServiceAddress("localhost", quick.port), pinned_context(ca))
    try:
        assert transport.send("GET", "/healthz", None, None).status == 200
        first = transport._connection.sock
        assert transport.send("GET", "/healthz", None, None).status == 200
        assert transport._connection.sock is first
        select.select([first], [], [], 20)  # the service ends what says nothing
        assert transport.send("GET", "/healthz", None, None).status == 200
        assert transport._connection.sock is not first
    finally:
        quick.stop()


@pytest.mark.parametrize(("launch", "said"), [case[1:] for case in CHANGED], ids=[case[0] for case in CHANGED])
def test_a_changed_guest_is_refused_and_learns_which_rule(served: Served, launch: LaunchContext, said: str) -> None:
    machine = ChipMachine(launch)
    with pytest.raises(Refused, match="403") as caught:
        ask(served, machine)
    assert machine.keys == {}
    assert any(said in reason for reason in caught.value.reasons), caught.value.reasons


class ReplayingMachine(ChipMachine):
    """Shows evidence about other report data than asked for: what a replayed report looks like."""

    def evidence(self, report_data: bytes, tee: str, emulated: bool) -> RawEvidence:
        return super().evidence(bytes(64), tee, emulated)


OWN = ResourcePath("default/web-1/root")
TEXTS = {name: write_init_data("sha256", Identity(name)) for name in ("web-1", "web-2")}


def of_vm(name: str, text: bytes | None = None) -> ChipMachine:
    """A VM of the reference value's image, launched under ``name``; the host may offer another text than that."""
    machine = ChipMachine(replace(LAUNCH, host_data=hashlib.sha256(TEXTS[name]).digest()))
    machine.offered, machine.bound = text or TEXTS[name], machine.launch.host_data
    return machine


@pytest.fixture(scope="module")
def of_web_1(served: Served) -> Served:
    """A disk's key that only VM web-1 gets."""
    conditions = served.folder / "web-1.toml"
    conditions.write_text('vm = ["web-1"]')
    for words, stdin in ((("key", "put", str(OWN)), KEY), (("key", "conditions", str(OWN), str(conditions)), b"")):
        done = attest_command(*words, "--config", str(served.config), stdin=stdin)
        assert done.code == 0, done.err
    return served


def test_a_vm_gets_the_key_of_its_disk_by_its_init_data(of_web_1: Served) -> None:
    machine = of_vm("web-1")
    ask(of_web_1, machine, resource=OWN, init_data=True)
    assert machine.keys == {"root": KEY}


def test_a_vm_of_the_same_image_with_the_others_disk_gets_nothing(of_web_1: Served) -> None:
    machine = of_vm("web-2")
    with pytest.raises(Refused, match="conditions of resource") as caught:
        ask(of_web_1, machine, resource=OWN, init_data=True)
    assert (machine.keys, caught.value.reasons) == ({}, ("condition.vm",))


def test_a_vm_that_says_nothing_of_its_name_gets_nothing(of_web_1: Served) -> None:
    machine = of_vm("web-1")
    with pytest.raises(Refused, match="conditions of resource"):
        ask(of_web_1, machine, resource=OWN)
    assert machine.keys == {}


def test_the_others_text_is_noticed_in_the_guest_and_by_the_service(of_web_1: Served) -> None:
    machine = of_vm("web-2", TEXTS["web-1"])
    with pytest.raises(InitDataRefused, match="not the text this launch is bound to"):
        ask(of_web_1, machine, resource=OWN, init_data=True)
    # An agent that lies to itself, or is none of ours, convinces nobody.
    machine.bound = hashlib.sha256(TEXTS["web-1"]).digest()
    with pytest.raises(Refused, match="evidence not accepted: binding"):
        ask(of_web_1, machine, resource=OWN, init_data=True)
    assert machine.keys == {}


def test_evidence_of_another_session_is_refused(served: Served) -> None:
    machine = ReplayingMachine()
    with pytest.raises(CvmError, match=r"40[013]"):
        ask(served, machine)
    assert machine.keys == {}


def test_a_resource_nobody_stored_is_not_found(served: Served) -> None:
    with pytest.raises((SecretNotFound, Refused)):
        ask(served, ChipMachine(), resource=ResourcePath("default/demo/other"))


def test_the_service_is_not_trusted_under_another_ca(served: Served) -> None:
    with pytest.raises(ServiceUntrusted):
        ask(served, ChipMachine(), ca=make_ca()[1].public_bytes(Encoding.DER))


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_guest_and_service_bind_alike(algorithm: str) -> None:
    public = GuestKey().jwk()
    assert report_data("N", public, algorithm=algorithm) == report_data_for("N", public, "", algorithm)


def test_what_the_service_wraps_the_guest_opens() -> None:
    key = GuestKey()
    assert key.open(encrypt(parse_tee_pubkey(key.jwk()), SecretBytes(KEY))).reveal() == KEY
