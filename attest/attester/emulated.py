"""Evidence from an emulated chip over its virtio-serial port: ``org.cvm.snp`` or ``org.cvm.tdx``.

An emulated TD has no CCEL: its firmware measured into a TPM. The log the kernel keeps of that is written anew with the
registers a TD has, which changes no digest.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from attest.attester.ccel import MAX_EVENT_LOG
from attest.attester.errors import EvidenceUnavailable
from attest.attester.ports import find_port, wait_for_port, write_all
from attest.attester.raw_evidence import SNP, TDX, RawEvidence
from attest.evidence.chip_port import (
    PORT_NAME,
    ChipPortMalformed,
    ErrorAnswer,
    Frame,
    ReportRequest,
    answer_stream,
    decode_answer,
    encode_request,
)
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.event_types import SHA384
from attest.evidence.eventlog import TCG2, parse_event_log
from attest.evidence.eventlog_build import NewEvent, build_event_log, ccel_index
from attest.evidence.td_port import PORT_NAME as TD_PORT
from attest.evidence.td_port import (
    ExtendAnswer,
    ExtendRequest,
    QuoteAnswer,
    QuoteRequest,
    decode_td_answer,
    encode_td_request,
)

TPM_LOG = Path("/sys/kernel/security/tpm0/binary_bios_measurements")
PORT_SECONDS = 10
ANSWER_SECONDS = 30.0
SOURCE = "emulated"
T = TypeVar("T")


def emulated_tee() -> str:
    """Which chip is emulated here: whose port is there. Neither: ``snp``, whose source then says what is missing."""
    deadline = time.monotonic() + PORT_SECONDS
    while time.monotonic() < deadline:
        for name, tee in ((TD_PORT, TDX), (PORT_NAME, SNP)):
            if find_port(name) is not None:
                return tee
        time.sleep(0.05)
    return SNP


def emulated_report(report_data: bytes) -> RawEvidence:
    """Report and certificate table for ``report_data`` from the port."""
    return ask(_port(PORT_NAME), report_data)


def emulated_quote(report_data: bytes, log: Path = TPM_LOG) -> RawEvidence:
    """A quote for ``report_data`` from the port, and the log of what firmware and kernel measured."""
    answer = _talk(_port(TD_PORT), encode_td_request(QuoteRequest(report_data)), _td_answer)
    if not isinstance(answer, QuoteAnswer):
        raise EvidenceUnavailable("emulated TD: asked for a quote, got something else")
    return RawEvidence(answer.quote, b"", SOURCE, TDX, td_event_log(log))


def emulated_extend(digest: bytes) -> None:
    """Extend RTMR3 of the emulated TD by ``digest`` (48 bytes)."""
    answer = _talk(_port(TD_PORT), encode_td_request(ExtendRequest(digest)), _td_answer)
    if not isinstance(answer, ExtendAnswer):
        raise EvidenceUnavailable("emulated TD: asked to extend RTMR3, got something else")


def td_event_log(path: Path = TPM_LOG) -> bytes:
    """The kernel's log of the TPM as the CCEL of a TD: PCRs become the registers that stand for them."""
    try:
        with path.open("rb") as file:
            log = parse_event_log(file.read(MAX_EVENT_LOG + 1), TCG2)
        return build_event_log(
            NewEvent(ccel_index(event.mr), event.type, ((SHA384, event.digest(SHA384)),), event.data)
            for event in log.events
        )
    except OSError as exc:
        raise EvidenceUnavailable(f"event log: {path}: {exc.strerror}") from None
    except (EvidenceMalformed, KeyError) as exc:
        raise EvidenceUnavailable(f"event log: {path}: {exc}") from None


def _port(name: str) -> Path:
    port = wait_for_port(name, seconds=PORT_SECONDS)
    if port is None:
        raise EvidenceUnavailable(f"cvm.evidence=emulated, but there is no virtio-serial port {name}")
    return port


def ask(port: Path, report_data: bytes) -> RawEvidence:
    """One question over the device node ``port``."""
    return _talk(port, encode_request(ReportRequest(report_data)), _snp_answer)


def converse(fd: int, report_data: bytes, *, seconds: float = ANSWER_SECONDS) -> RawEvidence:
    """Write the question to ``fd`` and wait at most ``seconds`` for its answer."""
    return _converse(fd, encode_request(ReportRequest(report_data)), _snp_answer, seconds)


def _snp_answer(frame: Frame) -> RawEvidence | ErrorAnswer:
    answer = decode_answer(frame)
    return answer if isinstance(answer, ErrorAnswer) else RawEvidence(answer.report, answer.certificates, SOURCE)


def _td_answer(frame: Frame) -> QuoteAnswer | ExtendAnswer | ErrorAnswer:
    return decode_td_answer(frame)


def _talk(port: Path, question: bytes, decode: Callable[[Frame], T | ErrorAnswer]) -> T:
    try:
        fd = os.open(port, os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            return _converse(fd, question, decode, ANSWER_SECONDS)
        finally:
            os.close(fd)
    except OSError as exc:
        raise EvidenceUnavailable(f"emulated chip: {port}: {exc.strerror}") from None


def _converse(fd: int, question: bytes, decode: Callable[[Frame], T | ErrorAnswer], seconds: float) -> T:
    write_all(fd, question)
    stream = answer_stream()
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        readable, _, _ = select.select([fd], [], [], left)
        data = os.read(fd, 65536) if readable else b""
        if readable and not data:
            raise EvidenceUnavailable("emulated chip: the port was closed before it answered")
        for frame in stream.feed(data):
            if isinstance(frame, ChipPortMalformed):
                raise EvidenceUnavailable(f"emulated chip: {frame}")
            answer = decode(frame)
            if isinstance(answer, ErrorAnswer):
                raise EvidenceUnavailable(f"emulated chip refused: {answer.text[:200]}")
            return answer
    raise EvidenceUnavailable(f"emulated chip: no answer within {seconds:g} s")
