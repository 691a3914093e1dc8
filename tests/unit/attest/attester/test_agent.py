"""The agent against a broker over real TLS, with a machine that only notes what is done to it."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attest.attester.agent import Agent, connect, settle
from attest.attester.cmdline import DiskOrder, NetOrder, Orders, RootOrder, ServiceAddress
from attest.attester.errors import (
    CommandLineMalformed,
    DiskFailed,
    EvidenceUnavailable,
    PayloadFailed,
    Refused,
    RootFailed,
    SecretNotFound,
    ServiceMalformed,
    ServiceUnavailable,
    ServiceUntrusted,
    SessionLost,
)
from attest.attester.https import pinned_context
from attest.attester.machine import Places
from attest.attester.raw_evidence import RawEvidence
from attest.attester.session import Pace
from policy.errors import CvmError
from policy.exec_channel import Ephemeral
from policy.luks_metadata import HeaderRefused
from policy.vocab import ResourcePath
from tests.fakes.guest import EndedPayload, FakeMachine, Recorder
from tests.fakes.intel_pki import FakeIntelPki
from tests.fakes.kbs_server import FakeKbs, make_ca, serving

KEY = bytes(range(100, 132))
ROOT = ResourcePath("default/demo/root")
PROBLEM = "https://github.com/confidential-containers/kbs/errors/"


class Scene:
    """One guest and one broker."""

    def __init__(self, kbs: FakeKbs, port: int) -> None:
        self.kbs = kbs
        self.machine = FakeMachine()
        self.recorder = Recorder()
        self.slept: list[float] = []
        self.clock = 0.0
        self.ca = kbs.ca_der
        self.host, self.port = "127.0.0.1", port
        self.disks: tuple[DiskOrder, ...] = (DiskOrder("root", ROOT),)
        self.run: str | None = "/hello"
        self.operators: tuple[bytes, ...] = ()
        self.root: RootOrder | None = None

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock += seconds

    def work(self) -> Any:
        service = ServiceAddress(self.host, self.port)
        net = NetOrder("10.0.2.15", 24, "10.0.2.2")
        orders = Orders(
            service=service,
            ca=self.ca,
            disks=self.disks,
            net=net,
            run=self.run,
            emulated=True,
            operators=self.operators,
            root=self.root,
        )
        pace = Pace(clock=lambda: self.clock, sleep=self.sleep, patience=30.0)
        return Agent(orders, self.machine, self.recorder.status, connect=connect, pace=pace).work()

    def fails(self, error: type[CvmError], match: str) -> None:
        with pytest.raises(error, match=match):
            self.work()
        assert self.machine.keys == {}
        assert "unlocked" not in self.recorder.names


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    kbs = FakeKbs(tmp_path)
    kbs.secrets[ROOT] = KEY
    with serving(kbs) as port:
        yield Scene(kbs, port)


def test_the_whole_way_from_network_to_payload(scene: Scene) -> None:
    scene.work()
    assert scene.machine.keys == {"root": KEY}
    assert scene.machine.done == [
        NetOrder("10.0.2.15", 24, "10.0.2.2"),
        "evidence emulated=True",
        ("/hello", Places(None, Path("/run/cvm/disk/root"))),
    ]
    assert scene.recorder.names == ["evidence", "attested", "unlocked", "payload-output"]
    assert scene.recorder.events[1]["detail"] == {"status": "affirming"}
    assert scene.recorder.events[3]["detail"] == {"text": "hello\n"}
    paths = ["POST /kbs/v0/auth", "POST /kbs/v0/attest", "GET /kbs/v0/resource/default/demo/root?cvm-disk=1"]
    assert scene.kbs.requests == paths


def test_a_payload_in_a_root_file_system_is_told_where_its_disk_is(scene: Scene) -> None:
    scene.root = RootOrder("system", 2, "ab" * 32)
    scene.work()
    assert scene.machine.done[1] == scene.root
    assert scene.machine.done[-2:] == [
        ("furnished", Path("/mnt/root"), ["root"]),  # once its disk is open: a later mount is not seen inside
        ("/hello", Places(Path("/mnt/root"), Path("/run/cvm/disk/root"))),
    ]


def test_a_changed_root_file_system_ends_the_boot_before_anybody_is_asked_for_a_key(scene: Scene) -> None:
    scene.root = RootOrder("system", 2, "ab" * 32)
    scene.machine.bad_root = RootFailed("root system: block 1 of 2 was changed", code="guest.root-changed")
    scene.fails(RootFailed, "block 1")
    assert scene.kbs.requests == []
    assert scene.recorder.events[-1]["detail"]["code"] == "guest.root-changed"


def test_a_td_shows_its_quote_and_closes_the_door_after_the_keys_and_before_the_payload(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evidence(report_data: bytes, tee: str, emulated: bool) -> RawEvidence:
        raw = FakeIntelPki(td={"report_data": report_data}).raw
        return RawEvidence(raw, b"", "test", tee, b"log")

    monkeypatch.setattr(scene.machine, "tee", lambda emulated: "tdx")
    monkeypatch.setattr(scene.machine, "evidence", evidence)
    scene.work()
    (sent,) = scene.kbs.attested
    assert set(sent) == {"quote", "cc_eventlog"}
    assert scene.machine.done[1:] == ["door closed", ("/hello", Places(None, Path("/run/cvm/disk/root")))]
    detail = scene.recorder.events[0]["detail"]
    assert (detail["tee"], detail["measurement"], detail["event_log_bytes"]) == ("tdx", "11" * 48, 3)


def test_a_door_that_does_not_close_stops_the_payload(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(emulated: bool) -> bool:
        raise EvidenceUnavailable("RTMR3: no")

    monkeypatch.setattr(scene.machine, "tee", lambda emulated: "tdx")
    monkeypatch.setattr(scene.machine, "close_door", fail)
    with pytest.raises(EvidenceUnavailable, match="RTMR3"):
        scene.work()
    assert "payload-output" not in scene.recorder.names


def test_the_evidence_is_the_chips_report_with_its_certificates(scene: Scene) -> None:
    scene.work()
    (evidence,) = scene.kbs.attested
    assert evidence["attestation_report"]["measurement"] == list(range(48))
    assert [entry["cert_type"] for entry in evidence["cert_chain"]] == ["VCEK", "ASK", "ARK"]


def test_no_key_reaches_status_or_console_and_the_copy_is_wiped(scene: Scene) -> None:
    scene.work()
    told = b"".join(scene.recorder.lines) + scene.recorder.console
    assert KEY.hex().encode() not in told
    assert repr(KEY).encode() not in told
    assert [len(key) for key in scene.machine.held] == [0]


def test_two_disks_need_one_handshake(scene: Scene) -> None:
    scene.kbs.secrets["default/demo/data"] = bytes(32)
    scene.disks += (DiskOrder("data", ResourcePath("default/demo/data")),)
    scene.work()
    assert sorted(scene.machine.keys) == ["data", "root"]
    assert scene.kbs.requests.count("POST /kbs/v0/attest") == 1


def test_a_refusal_is_told_with_the_services_reasons_and_not_retried(scene: Scene) -> None:
    body = {"type": PROBLEM + "PolicyDeny", "detail": "denied", "reasons": ["measurement: expected 7c…, got 11…"]}
    scene.kbs.fail = lambda path: (403, body) if path.endswith("/attest") else None
    scene.fails(Refused, "denied")
    (event,) = [event for event in scene.recorder.events if event["event"] == "refused"]
    assert event["detail"]["reasons"] == body["reasons"]
    assert b"expected 7c" in scene.recorder.console
    assert scene.slept == []
    assert scene.kbs.requests.count("POST /kbs/v0/attest") == 1


def test_a_refusal_of_one_resource_is_a_refusal(scene: Scene) -> None:
    denied = (403, {"type": PROBLEM + "PolicyDeny", "detail": "no"})
    scene.kbs.fail = lambda path: denied if "resource" in path else None
    scene.fails(Refused, "no")


def test_a_401_that_names_the_policy_is_a_refusal_too(scene: Scene) -> None:
    denied = (401, {"type": PROBLEM + "PolicyDeny", "detail": "no"})
    scene.kbs.fail = lambda path: denied if "resource" in path else None
    scene.fails(Refused, "no")
    assert scene.slept == []


def test_a_version_mismatch_is_not_retried(scene: Scene) -> None:
    mismatch = (401, {"type": PROBLEM + "ProtocolVersion", "detail": "KBS Client Protocol Version Mismatch: expect =9"})
    scene.kbs.fail = lambda path: mismatch if path.endswith("/auth") else None
    scene.fails(Refused, "Version Mismatch")


def test_an_unknown_resource_is_a_failure_without_retry(scene: Scene) -> None:
    del scene.kbs.secrets[ROOT]
    scene.fails(SecretNotFound, "no resource default/demo/root")
    assert scene.recorder.names[-1] == "failed"
    assert scene.slept == []


def test_a_lost_session_means_a_new_handshake_with_a_new_key(scene: Scene) -> None:
    lost = iter([True])

    def fail(path: str) -> Any:
        return (
            (401, {"type": PROBLEM + "TokenNotFound", "detail": "?"}) if "resource" in path and next(lost, 0) else None
        )

    scene.kbs.fail = fail
    scene.work()
    first, second = scene.kbs.attested
    assert first["attestation_report"]["report_data"] != second["attestation_report"]["report_data"]


def test_a_session_lost_again_and_again_ends_after_three_handshakes(scene: Scene) -> None:
    lost = (401, {"type": PROBLEM + "TokenNotFound", "detail": "?"})
    scene.kbs.fail = lambda path: lost if "resource" in path else None
    scene.fails(SessionLost, "resource")
    assert scene.kbs.requests.count("POST /kbs/v0/attest") == 3


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_service_that_cannot_answer_now_is_asked_again(scene: Scene, status: int) -> None:
    down = iter([True, True])
    scene.kbs.fail = lambda path: (status, {}) if path.endswith("/attest") and next(down, False) else None
    scene.work()
    assert scene.slept == [0.2, 0.5]


def test_a_service_that_never_answers_ends_the_patience(scene: Scene) -> None:
    scene.kbs.fail = lambda path: (503, {"type": "x", "detail": "collateral unavailable"})
    scene.fails(ServiceUnavailable, "collateral unavailable")
    assert sum(scene.slept) <= 30.0
    assert scene.recorder.console.count(b"collateral unavailable (HTTP 503); trying again") == 1


def test_a_network_that_is_not_up_yet_is_waited_for(scene: Scene) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port, scene.port = scene.port, unused.getsockname()[1]
        scene.fails(ServiceUnavailable, "refused")
    assert len(scene.slept) > 5
    assert port


def test_a_server_of_another_ca_is_never_asked_and_never_retried(scene: Scene) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    scene.ca = make_ca()[1].public_bytes(Encoding.DER)
    scene.fails(ServiceUntrusted, "cvm.ca")
    assert scene.kbs.requests == []
    assert scene.slept == []


def test_a_server_of_our_ca_for_another_address_is_never_asked(scene: Scene) -> None:
    scene.host = "localhost"
    scene.fails(ServiceUntrusted, "localhost")
    assert scene.kbs.requests == []


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_a_server_that_offers_only_old_tls_is_refused(scene: Scene) -> None:
    scene.kbs.context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    scene.kbs.context.maximum_version = ssl.TLSVersion.TLSv1_1
    scene.kbs.context.set_ciphers("ALL:@SECLEVEL=0")
    scene.fails(ServiceUntrusted, "want a certificate of the CA")
    assert scene.kbs.requests == []


def test_a_server_that_speaks_plain_http_is_refused(scene: Scene) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def answer() -> None:
            peer, _ = plain.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

        thread = threading.Thread(target=answer)
        thread.start()
        scene.port = plain.getsockname()[1]
        scene.fails(ServiceUntrusted, "want a certificate of the CA")
        thread.join()


@pytest.mark.parametrize(
    ("where", "body", "said"),
    [
        ("auth", {}, "sets no cookie"),
        ("attest", {"token": "not a token"}, "no JWT"),
        ("attest", [], "not a JSON object"),
        ("resource", {}, "exactly the members"),
    ],
)
def test_an_answer_that_is_not_the_protocol_is_a_failure(scene: Scene, where: str, body: Any, said: str) -> None:
    scene.kbs.fail = lambda path: (200, body) if f"/{where}" in path else None
    scene.fails(ServiceMalformed, said)
    assert scene.slept == []


def test_a_header_that_is_refused_is_told_with_its_reason_and_no_key_is_asked_for(scene: Scene) -> None:
    scene.machine.bad_header = HeaderRefused("segment 0: encryption 'cipher_null-ecb', want 'aes-xts-plain64'")
    scene.fails(HeaderRefused, "cipher_null-ecb")
    assert scene.recorder.names == ["failed"]
    assert b"cipher_null-ecb" in scene.recorder.console
    assert scene.kbs.requests == []


def test_a_key_that_opens_nothing_is_wiped_all_the_same(scene: Scene) -> None:
    scene.machine.fail = DiskFailed("disk root: cryptsetup: the key does not open this disk")
    scene.fails(DiskFailed, "does not open")
    assert [len(key) for key in scene.machine.held] == [0]


def test_a_ca_that_tls_cannot_read_is_a_command_line_error() -> None:
    with pytest.raises(CommandLineMalformed, match=r"cvm\.ca"):
        pinned_context(b"\x30\x82\x01\x00" + bytes(256))


def test_running_is_told_at_once_without_a_payload() -> None:
    recorder = Recorder()
    assert settle(None, recorder.status, 5.0) is None
    assert recorder.names == ["running"]


@pytest.mark.parametrize(("code", "word"), [(0, "ended"), (None, "running")])
def test_running_is_told_when_the_payload_ended_well_or_lasts(code: int | None, word: str) -> None:
    recorder = Recorder()
    assert settle(EndedPayload(code), recorder.status, 5.0) == code
    assert recorder.events[0]["detail"]["payload"] == word


@pytest.mark.parametrize(("code", "said"), [(3, "exit status 3"), (-9, "signal 9")])
def test_a_payload_that_fails_is_a_failure(code: int, said: str) -> None:
    recorder = Recorder()
    with pytest.raises(PayloadFailed, match=said):
        settle(EndedPayload(code), recorder.status, 5.0)
    assert recorder.names == ["failed"]


def test_commands_are_served_only_after_the_service_accepted_the_guest_and_with_the_accepted_key(scene: Scene) -> None:
    scene.operators = (bytes(32),)
    scene.work()
    assert scene.machine.done[-2:] == [
        ("exec", (bytes(32),), None),
        ("/hello", Places(None, Path("/run/cvm/disk/root"))),
    ]
    before = len(scene.kbs.requests)
    _, key = scene.machine.credential()
    assert len(scene.kbs.requests) == before + 2, "a token without an end is over: it attests again"
    assert len(key.agree(Ephemeral().point)) == 32


def test_commands_and_payload_of_a_guest_with_a_root_file_system_run_inside_it(scene: Scene) -> None:
    scene.operators = (bytes(32),)
    scene.root = RootOrder("system", 2, "ab" * 32)
    scene.work()
    assert ("exec", (bytes(32),), Path("/mnt/root")) in scene.machine.done


def test_a_refused_guest_serves_no_commands(scene: Scene) -> None:
    scene.operators = (bytes(32),)
    scene.kbs.fail = lambda path: (403, {"type": PROBLEM + "PolicyDeny", "detail": "no"}) if "attest" in path else None
    scene.fails(Refused, "no")
    assert not [item for item in scene.machine.done if item[0] == "exec"]


def test_without_operators_in_the_command_line_nothing_is_served(scene: Scene) -> None:
    scene.work()
    assert not [item for item in scene.machine.done if item[0] == "exec"]
