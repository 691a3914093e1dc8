"""Asking Intel's service: names and paths of things, and a client against a server that answers as it is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

from attest.collateral.clock import Budget
from attest.collateral.errors import CollateralGone, CollateralNotFound, CollateralRefused, CollateralUnavailable
from attest.collateral.intel_wanted import (
    Channel,
    IntelKind,
    IntelWanted,
    PckCa,
    Tee,
    intel_wanted_from_name,
    wanted_of_platform,
    wanted_tcb_info,
)
from attest.collateral.pcs import PcsAnswer, PcsClient
from attest.collateral.pcs_settings import INTEL_ROOT_CRL_URL, PcsSettings
from attest.collateral.url import PCS_URL
from attest.collateral.wanted import NotAskable
from tests.fakes.kds import FakeClock

FMSPC = bytes.fromhex("00806f050000")
TCB = wanted_tcb_info(Tee.TDX, FMSPC)


class Told:
    """A server whose next answer is ``status``, ``headers`` and ``body``; ``asked`` lists paths."""

    def __init__(self) -> None:
        self.status, self.headers, self.body = 200, dict[str, str](), b"{}"
        self.asked: list[str] = []
        self.time = FakeClock()
        told = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                told.asked.append(self.path)
                self.send_response(told.status)
                for name, value in {**told.headers, "Content-Length": str(len(told.body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(told.body)

            def log_message(self, *words: object) -> None:
                """Nothing on standard error."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def fetch(self, folder: Path, wanted: IntelWanted = TCB) -> PcsAnswer:
        client = PcsClient(PcsSettings(urls=(self.url,)), folder, self.time.clock)
        return client.fetch(wanted, next(client.places(wanted)), Budget(self.time.clock, 30.0))

    def answers(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"{}") -> None:
        self.status, self.headers, self.body = status, dict(headers or {}), body


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    service = Told()
    threading.Thread(target=service.server.serve_forever, args=(0.01,), daemon=True).start()
    yield service
    service.server.shutdown()
    service.server.server_close()


@pytest.mark.parametrize(
    ("channel", "query"), [("standard", ""), ("early", "update=early"), ("19", "tcbEvaluationDataNumber=19")]
)
def test_documents_are_asked_for_by_channel_and_named_by_it(channel: str, query: str) -> None:
    info, identity, *lists = wanted_of_platform(Tee.TDX, FMSPC, PckCa.PLATFORM, Channel.parse(channel))
    assert info.path == "/tdx/certification/v4/tcb?fmspc=00806F050000" + (f"&{query}" if query else "")
    assert identity.path == "/tdx/certification/v4/qe/identity" + (f"?{query}" if query else "")
    for wanted in (info, identity, *lists):
        assert intel_wanted_from_name(wanted.name) == wanted


@pytest.mark.parametrize("text", ["", "late", "0", "-1", "65536", "999999", "1.0", "²"])
def test_another_channel_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="evaluation data number"):
        Channel.parse(text)


@pytest.mark.parametrize(
    "name", ["", "tcb-tdx-00-standard", "qe-tdx-n0", "qe-tdx-n019", "pckcrl-root", "crl-vcek-Milan"]
)
def test_another_name_is_no_name_of_intels(name: str) -> None:
    with pytest.raises(NotAskable):
        intel_wanted_from_name(name)


def test_an_fmspc_of_another_length_is_not_asked_for() -> None:
    with pytest.raises(NotAskable, match="want 6"):
        wanted_tcb_info(Tee.TDX, FMSPC[:5])


def test_the_roots_list_comes_from_a_pccs_or_from_the_distribution_point(tmp_path: Path) -> None:
    settings = PcsSettings(urls=("https://pccs.example:8081", PCS_URL))
    places = list(PcsClient(settings, tmp_path, FakeClock().clock).places(IntelWanted(IntelKind.ROOT_CRL)))
    assert places == ["https://pccs.example:8081/sgx/certification/v4/rootcacrl", INTEL_ROOT_CRL_URL]


@pytest.mark.parametrize("name", ["TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain"])
def test_the_issuer_chain_is_decoded_under_either_name(told: Told, tmp_path: Path, name: str) -> None:
    told.answers(200, {name: quote("-----BEGIN CERTIFICATE-----\nAA==\n")}, b'{"tcbInfo":{}}')
    answer = told.fetch(tmp_path)
    assert answer.chain == b"-----BEGIN CERTIFICATE-----\nAA==\n"
    assert answer.body == b'{"tcbInfo":{}}'


def test_a_number_that_is_not_there_and_one_that_is_gone_are_told_apart(told: Told, tmp_path: Path) -> None:
    for status, kind in ((404, CollateralNotFound), (410, CollateralGone)):
        told.answers(status)
        with pytest.raises(CollateralNotFound) as caught:
            told.fetch(tmp_path)
        assert type(caught.value) is kind
    assert len(told.asked) == 2


def test_an_outage_is_tried_three_times_and_then_given_up(told: Told, tmp_path: Path) -> None:
    told.answers(500)
    with pytest.raises(CollateralUnavailable, match="answered 500; tried 3 times"):
        told.fetch(tmp_path)
    assert len(told.asked) == 3


def test_an_answer_that_is_too_large_is_refused(told: Told, tmp_path: Path) -> None:
    told.answers(200, body=bytes((1 << 20) + 1))
    with pytest.raises(CollateralRefused, match="larger"):
        told.fetch(tmp_path)
