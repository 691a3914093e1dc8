"""Evidence from the emulated chip over the virtio-serial port ``org.cvm.snp``."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path

from attest.attester.errors import EvidenceUnavailable
from attest.attester.ports import wait_for_port, write_all
from attest.attester.raw_evidence import RawEvidence
from attest.evidence.chip_port import (
    PORT_NAME,
    ChipPortMalformed,
    ErrorAnswer,
    ReportRequest,
    answer_stream,
    decode_answer,
    encode_request,
)

ANSWER_SECONDS = 30.0
SOURCE = "emulated"


def emulated_report(report_data: bytes) -> RawEvidence:
    """Report and certificate table for ``report_data`` from the port."""
    port = wait_for_port(PORT_NAME, seconds=10)
    if port is None:
        raise EvidenceUnavailable(f"cvm.evidence=emulated, but there is no virtio-serial port {PORT_NAME}")
    return ask(port, report_data)


def ask(port: Path, report_data: bytes) -> RawEvidence:
    """One question over the device node ``port``."""
    try:
        fd = os.open(port, os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            return converse(fd, report_data)
        finally:
            os.close(fd)
    except OSError as exc:
        raise EvidenceUnavailable(f"emulated chip: {port}: {exc.strerror}") from None


def converse(fd: int, report_data: bytes, *, seconds: float = ANSWER_SECONDS) -> RawEvidence:
    """Write the question to ``fd`` and wait at most ``seconds`` for its answer."""
    write_all(fd, encode_request(ReportRequest(report_data)))
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
            answer = decode_answer(frame)
            if isinstance(answer, ErrorAnswer):
                raise EvidenceUnavailable(f"emulated chip refused: {answer.text[:200]}")
            return RawEvidence(answer.report, answer.certificates, SOURCE)
    raise EvidenceUnavailable(f"emulated chip: no answer within {seconds:g} s")
