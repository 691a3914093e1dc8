"""In the guest: no word of the host's text counts unless this very launch is bound to it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from attest.attester import sources
from attest.attester.agent import Agent
from attest.attester.ccel import with_event
from attest.attester.cmdline import DiskOrder, Orders, ServiceAddress
from attest.attester.errors import EvidenceUnavailable, InitDataRefused
from attest.attester.init_data import believed, establish, offered
from attest.attester.raw_evidence import SNP, TDX, RawEvidence
from attest.attester.tdx_guest import TDREPORT_BYTES, own_mrconfigid
from attest.evidence.chip_port import ReportRequest
from attest.evidence.event_types import EV_RUNTIME, SHA384
from attest.evidence.eventlog import CCEL, parse_event_log
from attest.evidence.eventlog_build import NewEvent, build_event_log
from attest.verifier.eventlog import measured_events, replay_rtmrs
from policy.initdata import MAX_BYTES, Identity, rtmr3_after, runtime_event, write_init_data
from policy.vocab import ResourcePath
from tests.fakes.guest import LAUNCH, FakeMachine, Recorder, chip
from tests.fakes.intel_pki import FakeIntelPki
from tests.fakes.kbs_server import FakeKbs, serving

ROOT = ResourcePath("default/demo/root")
TEXT = write_init_data("sha256", Identity("web-1"))
HOST_DATA = hashlib.sha256(TEXT).digest()
TD_TEXT = write_init_data("sha384", Identity("web-1"))
MRCONFIGID = hashlib.sha384(TD_TEXT).digest()


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("size", [32, 48])
def test_a_text_counts_where_the_register_holds_its_digest(algorithm: str, size: int) -> None:
    data = write_init_data(algorithm, Identity("web-1"))
    binding = hashlib.new(algorithm, data).digest()[:size].ljust(size, b"\0")
    found = believed(data, binding)
    assert (found.algorithm, found.identity.vm) == (algorithm, "web-1")


REFUSED = [
    ("altered text", TEXT.replace(b"web-1", b"web-2"), HOST_DATA, "not the text this launch is bound to: HOST_DATA"),
    ("another VM's text", write_init_data("sha256", Identity("web-2")), HOST_DATA, "not the text this launch"),
    ("no text", b"", HOST_DATA, "not the text this launch is bound to"),
    ("no bound digest", TEXT, bytes(32), "HOST_DATA is zero: this launch is bound to no text"),
    ("no bound digest, TD", TEXT, bytes(48), "MRCONFIGID is zero"),
    ("wrong algorithm", TEXT, hashlib.sha384(TEXT).digest()[:32], "names sha256, HOST_DATA is bound to it by sha384"),
    ("bound nonsense", b"what", hashlib.sha256(b"what").digest(), "not TOML"),
    ("a digest that is cut", TEXT, HOST_DATA[:31] + b"\0", "not the text"),
]


@pytest.mark.parametrize(("data", "binding", "said"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED])
def test_a_text_that_the_launch_is_not_bound_to_is_refused(data: bytes, binding: bytes, said: str) -> None:
    with pytest.raises(InitDataRefused, match=said):
        believed(data, binding)


def test_what_the_host_offers_is_read_whole_or_refused(tmp_path: Path) -> None:
    item = tmp_path / "raw"
    with pytest.raises(InitDataRefused, match="the command line demands it, the host offers none"):
        offered(item)
    item.write_bytes(TEXT.ljust(MAX_BYTES, b"#"))
    assert offered(item)[: len(TEXT)] == TEXT
    item.write_bytes(bytes(MAX_BYTES + 1))
    with pytest.raises(InitDataRefused, match=f"more than {MAX_BYTES} bytes"):
        offered(item)
    with pytest.raises(InitDataRefused, match="directory"):
        offered(tmp_path)


def test_the_register_is_read_from_the_chips_report_and_from_a_quote(monkeypatch: pytest.MonkeyPatch) -> None:
    report = chip().report(ReportRequest(bytes(64)))
    assert RawEvidence(report, b"", "test", SNP).binding == LAUNCH.host_data
    for version in (4, 5):
        quote = FakeIntelPki(
            td={"mrconfigid": b"\x5a" * 48}, version=version, layout="1.5" if version == 5 else "1.0"
        ).raw
        assert RawEvidence(quote, b"", "test", TDX).binding == b"\x5a" * 48

    def source(report_data: bytes) -> RawEvidence:
        return RawEvidence(chip().report(ReportRequest(report_data)), b"", "test", SNP)

    monkeypatch.setattr(sources, "emulated_report", source)
    assert sources.own_binding(SNP, emulated_chip=True) == LAUNCH.host_data


def test_in_a_td_the_module_itself_says_mrconfigid(tmp_path: Path) -> None:
    device = tmp_path / "tdx_guest"
    device.touch()

    def ioctl(handle: int, number: int, request: bytearray) -> int:
        report = bytearray(TDREPORT_BYTES)
        report[0], report[128:192] = 0x81, request[:64]
        report[576:624] = MRCONFIGID
        request[64:] = report
        return 0

    assert own_mrconfigid(device, ioctl) == MRCONFIGID


def test_the_log_gets_an_entry_that_explains_rtmr3() -> None:
    first = NewEvent(1, 4, ((SHA384, bytes(48)),), b"\0\0\0\0")
    log = with_event(build_event_log([first], size=1 << 16), runtime_event(MRCONFIGID))
    parsed = parse_event_log(log, CCEL)
    assert [(event.mr, event.type) for event in parsed.events] == [(1, 4), (4, EV_RUNTIME)]
    assert replay_rtmrs(parsed)[3] == rtmr3_after(MRCONFIGID)
    event = measured_events(parsed)[1]
    assert (event.register, event.name, event.detail, event.proven) == (3, "runtime:init-data", MRCONFIGID.hex(), True)
    assert with_event(b"", b"x") == b""
    with pytest.raises(EvidenceUnavailable, match="event log"):
        with_event(b"nonsense" * 20, b"x")


def td_machine(*, extends: bool = True) -> FakeMachine:
    machine = FakeMachine()
    machine.offered, machine.bound, machine.extends = TD_TEXT, MRCONFIGID, extends
    return machine


def test_a_td_extends_rtmr3_and_says_so_only_where_the_kernel_did() -> None:
    said: list[str] = []
    machine = td_machine()
    assert establish(machine, TDX, emulated=False, tell=said.append).event == runtime_event(MRCONFIGID)
    assert machine.done == [("extended", runtime_event(MRCONFIGID))]
    assert establish(td_machine(extends=False), TDX, emulated=False, tell=said.append).event == b""
    assert "RTMR3 not extended" in said[-1]


def test_a_td_whose_text_is_another_extends_nothing() -> None:
    machine = td_machine()
    machine.offered = TEXT
    with pytest.raises(InitDataRefused):
        establish(machine, TDX, emulated=False, tell=print)
    assert machine.done == []


def test_without_a_td_nothing_is_extended() -> None:
    machine = FakeMachine()
    machine.offered, machine.bound = TEXT, HOST_DATA
    said: list[str] = []
    assert establish(machine, SNP, emulated=False, tell=said.append).event == b""
    assert machine.done == []
    assert "HOST_DATA is bound to it; this VM is web-1" in said[0]


class Scene:
    """A guest whose measured command line may demand init-data, and a broker that notes what it is sent."""

    def __init__(self, kbs: FakeKbs, port: int) -> None:
        self.kbs, self.port = kbs, port
        self.machine, self.recorder = FakeMachine(), Recorder()

    def work(self, *, demanded: bool = True) -> None:
        address = ServiceAddress("127.0.0.1", self.port)
        orders = Orders(address, self.kbs.ca_der, (DiskOrder("root", ROOT),), init_data=demanded)
        Agent(orders, self.machine, self.recorder.status).work()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    kbs = FakeKbs(tmp_path)
    kbs.secrets[ROOT] = bytes(32)
    with serving(kbs) as port:
        yield Scene(kbs, port)


def test_the_agent_sends_the_text_with_its_evidence(scene: Scene) -> None:
    scene.machine.offered, scene.machine.bound = TEXT, HOST_DATA
    scene.work()
    assert scene.kbs.init_data == [{"format": "toml", "body": TEXT.decode()}]
    assert scene.machine.keys == {"root": bytes(32)}


def test_an_agent_that_is_not_told_to_looks_at_no_text(scene: Scene) -> None:
    scene.machine.offered = TEXT
    scene.work(demanded=False)
    assert scene.kbs.init_data == [None]


def altered(machine: FakeMachine) -> None:
    machine.offered, machine.bound = TEXT + b"#", HOST_DATA


def unbound(machine: FakeMachine) -> None:
    machine.offered = TEXT


@pytest.mark.parametrize("change", [altered, unbound])
def test_a_guest_without_the_right_text_asks_nobody_for_anything(
    scene: Scene, change: Callable[[FakeMachine], None]
) -> None:
    change(scene.machine)
    with pytest.raises(InitDataRefused):
        scene.work()
    assert (scene.kbs.requests, scene.machine.keys) == ([], {})
    assert scene.recorder.events[-1]["detail"]["code"] == "guest.init-data"


def test_the_log_a_td_sends_has_the_event(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.machine = td_machine()
    log = build_event_log([NewEvent(1, 4, ((SHA384, bytes(48)),), b"\0\0\0\0")])

    def evidence(report_data: bytes, tee: str, emulated: bool) -> RawEvidence:
        return RawEvidence(FakeIntelPki(td={"report_data": report_data}).raw, b"", "test", tee, log)

    monkeypatch.setattr(scene.machine, "tee", lambda emulated: TDX)
    monkeypatch.setattr(scene.machine, "evidence", evidence)
    scene.work()
    (detail,) = [item["detail"] for item in scene.recorder.events if item["event"] == "evidence"]
    assert detail["event_log_bytes"] == len(with_event(log, runtime_event(MRCONFIGID))) > len(log)
