"""Evidence of a TD in the guest: configfs-tsm and CCEL, the emulated TD's port and TPM log, RTMR3."""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from attest.attester import configfs_tsm, emulated, rtmr, sources, tdx_guest
from attest.attester.errors import EvidenceUnavailable
from attest.attester.evidence_json import kbs_evidence
from attest.attester.raw_evidence import TDX, RawEvidence
from attest.evidence.chip_port import ErrorAnswer, encode_answer, question_stream
from attest.evidence.event_types import SHA384
from attest.evidence.eventlog import CCEL, TCG2, parse_event_log
from attest.evidence.eventlog_build import NewEvent, build_event_log
from attest.evidence.td_port import (
    ExtendAnswer,
    ExtendRequest,
    QuoteAnswer,
    QuoteRequest,
    decode_td_request,
    encode_td_answer,
)
from attest.evidence.tdx_json import decode_tdx_json
from tests.fakes.intel_pki import FakeIntelPki

DATA = bytes(range(64))


def quote(data: bytes = DATA, **changes: object) -> bytes:
    return FakeIntelPki(**changes).with_(td={"report_data": data}).raw  # type: ignore[arg-type]


class Configfs:
    """configfs-tsm of a TD: no auxblob there."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.ccel = root / "report", root / "CCEL"
        self.root.mkdir()
        self.provider, self.generation, self.inblob = b"tdx_guest\n", 0, b""
        self.empty = False
        monkeypatch.setattr(configfs_tsm, "_read", self.read)
        monkeypatch.setattr(configfs_tsm, "_write", self.write)

    def read(self, path: Path, limit: int) -> bytes:
        answers = {
            "provider": self.provider,
            "generation": b"%d\n" % self.generation,
            "outblob": b"" if self.empty or not self.inblob else quote(self.inblob),
        }
        return answers[path.name]

    def write(self, path: Path, data: bytes) -> None:
        self.inblob = data
        self.generation += 1

    def ask(self) -> RawEvidence:
        return configfs_tsm.configfs_quote(DATA, self.root, self.ccel)


@pytest.fixture
def configfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configfs:
    return Configfs(tmp_path, monkeypatch)


def test_configfs_gives_the_quote_and_the_log_beside_it(configfs: Configfs) -> None:
    configfs.ccel.write_bytes(b"the log")
    raw = sources.checked(configfs.ask(), DATA)
    assert (raw.tee, raw.event_log, raw.launch_digest) == (TDX, b"the log", b"\x11" * 48)
    assert list(configfs.root.iterdir()) == []


def test_a_td_without_a_log_still_has_evidence(configfs: Configfs) -> None:
    assert configfs.ask().event_log == b""


def test_an_snp_provider_is_refused_for_a_td(configfs: Configfs) -> None:
    configfs.provider = b"sev_guest\n"
    with pytest.raises(EvidenceUnavailable, match="want 'tdx_guest'"):
        configfs.ask()


def test_an_empty_answer_names_the_quoting_service(configfs: Configfs) -> None:
    configfs.empty = True
    with pytest.raises(EvidenceUnavailable, match="quoting service"):
        configfs.ask()


@pytest.mark.parametrize(("version", "layout"), [(4, "1.0"), (5, "1.0"), (5, "1.5")])
def test_report_data_and_mrtd_are_found_in_every_quote(version: int, layout: str) -> None:
    raw = RawEvidence(quote(version=version, layout=layout), b"", "x", TDX)
    assert (raw.report_data, raw.launch_digest) == (DATA, b"\x11" * 48)


@pytest.mark.parametrize("report", [b"", b"\x04", b"\x09\x00" + bytes(900), quote(bytes(64))])
def test_a_quote_about_something_else_is_noticed_in_the_guest(report: bytes) -> None:
    with pytest.raises(EvidenceUnavailable, match="is about other report data"):
        sources.checked(RawEvidence(report, b"", "x", TDX), DATA)


def test_the_json_is_quote_and_log() -> None:
    raw = quote()
    found = decode_tdx_json(kbs_evidence(RawEvidence(raw, b"", "x", TDX, b"log")))
    assert (found.quote.raw, found.event_log) == (raw, b"log")
    assert kbs_evidence(RawEvidence(raw, b"", "x", TDX))["cc_eventlog"] is None
    assert base64.b64decode(str(kbs_evidence(RawEvidence(b"q", b"", "x", TDX))["quote"])) == b"q"


def test_the_tee_is_told_by_the_device(tmp_path: Path) -> None:
    assert sources.tee_here(emulated_chip=False, device=tmp_path / "absent") == "snp"
    (tmp_path / "tdx_guest").touch()
    assert sources.tee_here(emulated_chip=False, device=tmp_path / "tdx_guest") == "tdx"


@pytest.mark.parametrize(("name", "tee"), [("org.cvm.tdx", "tdx"), ("org.cvm.snp", "snp")])
def test_the_emulated_tee_is_told_by_the_port(monkeypatch: pytest.MonkeyPatch, name: str, tee: str) -> None:
    monkeypatch.setattr(emulated, "find_port", lambda wanted: Path("/dev/x") if wanted == name else None)
    assert sources.tee_here(emulated_chip=True) == tee


def test_without_any_port_the_snp_source_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulated, "PORT_SECONDS", 0.01)
    assert sources.tee_here(emulated_chip=True) == "snp"


def test_the_emulated_td_is_never_among_the_hardware() -> None:
    (only,) = sources.emulated(TDX)
    assert only not in (*sources.hardware(TDX), *sources.hardware("snp"))
    assert sources.hardware(TDX) == (configfs_tsm.configfs_quote, tdx_guest.tdx_guest_quote)


class Port:
    """The emulated TD's end of the port: a socket pair whose other end the agent opens as a file."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, answer: Callable[[QuoteRequest | ExtendRequest], bytes]
    ) -> None:
        import socket

        self.asked: list[QuoteRequest | ExtendRequest] = []
        mine, theirs = socket.socketpair()
        self._mine, self._answer = mine, answer
        monkeypatch.setattr(emulated, "wait_for_port", lambda *_args, **_more: Path("/dev/vport0p2"))
        monkeypatch.setattr(os, "open", lambda *_args, **_more: theirs.detach())
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        stream = question_stream()
        while data := self._mine.recv(4096):
            for frame in stream.feed(data):
                request = decode_td_request(frame)  # type: ignore[arg-type]
                self.asked.append(request)
                self._mine.sendall(self._answer(request))


def test_the_emulated_td_gives_a_quote_over_its_port(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(tpm_log())
    port = Port(monkeypatch, lambda request: encode_td_answer(QuoteAnswer(quote(request[0]))))
    raw = sources.checked(emulated.emulated_quote(DATA, log), DATA)
    assert port.asked == [QuoteRequest(DATA)]
    assert parse_event_log(raw.event_log, CCEL).events[0].mr == 1


def test_rtmr3_is_extended_over_the_port(monkeypatch: pytest.MonkeyPatch) -> None:
    port = Port(monkeypatch, lambda request: encode_td_answer(ExtendAnswer(bytes(48))))
    assert rtmr.close_door(emulated_chip=True)
    assert port.asked == [ExtendRequest(rtmr.RELEASED)]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (encode_answer(ErrorAnswer("PCR 3 differs")), "refused: PCR 3 differs"),
        (encode_td_answer(ExtendAnswer(bytes(48))), "got something else"),
    ],
)
def test_what_is_no_quote_is_not_taken_for_one(monkeypatch: pytest.MonkeyPatch, answer: bytes, words: str) -> None:
    Port(monkeypatch, lambda request: answer)
    with pytest.raises(EvidenceUnavailable, match=words):
        emulated.emulated_quote(DATA)


def tpm_log(*pcrs: int) -> bytes:
    events = [NewEvent(pcr, 4, ((SHA384, bytes([pcr]) * 48),), b"\0\0\0\0") for pcr in pcrs or (1, 0, 7, 4, 9)]
    return build_event_log(events, kind=TCG2)


def test_the_log_of_a_tpm_becomes_that_of_a_td(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(tpm_log())
    before, after = parse_event_log(tpm_log(), TCG2), parse_event_log(emulated.td_event_log(path), CCEL)
    assert [event.mr for event in after.events] == [1, 0, 1, 2, 3]
    assert [(event.type, event.digests, event.data) for event in after.events] == [
        (event.type, event.digests, event.data) for event in before.events
    ]


@pytest.mark.parametrize("data", [b"", b"nonsense" * 20, tpm_log(16)])
def test_a_log_that_is_none_of_a_td_is_not_sent(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(data)
    with pytest.raises(EvidenceUnavailable, match="event log"):
        emulated.td_event_log(path)


def test_a_log_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvidenceUnavailable, match="No such file"):
        emulated.td_event_log(tmp_path / "absent")


def test_a_kernel_that_offers_it_extends_rtmr3(tmp_path: Path) -> None:
    node = tmp_path / "rtmr3:sha384"
    assert not rtmr.close_door(emulated_chip=False, node=node)
    node.touch()
    assert rtmr.close_door(emulated_chip=False, node=node)
    assert node.read_bytes() == rtmr.RELEASED


def test_a_kernel_that_fails_to_extend_rtmr3_stops_the_boot(tmp_path: Path) -> None:
    with pytest.raises(EvidenceUnavailable, match="RTMR3"):
        rtmr.close_door(emulated_chip=False, node=tmp_path)
