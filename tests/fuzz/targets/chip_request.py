"""Fuzz target: bytes on the chip's port give requests and errors, in whatever pieces they arrive."""

from __future__ import annotations

from attest.evidence.chip_port import (
    ChipPortMalformed,
    ReportRequest,
    answer_stream,
    decode_answer,
    decode_request,
    encode_request,
    question_stream,
)
from policy.errors import CvmError


def one(data: bytes) -> None:
    """Feed one input whole and byte by byte; both must ask for the same reports, spelt in one way only."""
    whole, pieces = question_stream(), question_stream()
    found = _requests(whole.feed(data))
    if found != _requests([frame for byte in data for frame in pieces.feed(bytes([byte]))]):
        raise RuntimeError("pieces change the meaning")
    for request in found:
        if encode_request(request) not in data:
            raise RuntimeError("a request that was never sent")
    for frame in answer_stream().feed(data):
        try:
            if not isinstance(frame, ChipPortMalformed):
                decode_answer(frame)
        except CvmError:
            continue


def _requests(frames: list) -> list[ReportRequest]:  # type: ignore[type-arg]
    found = []
    for frame in frames:
        try:
            if not isinstance(frame, ChipPortMalformed):
                found.append(decode_request(frame))
        except CvmError:
            continue
    return found
