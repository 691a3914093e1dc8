"""Bytes a guest writes into an emulated TD's port, and answers of one."""

from __future__ import annotations

from attest.evidence.chip_port import ChipPortMalformed, answer_stream, question_stream
from attest.evidence.td_port import decode_td_answer, decode_td_request, encode_td_request


def one(data: bytes) -> None:
    """Requests that parse are written as they were read."""
    for frame in question_stream().feed(data):
        if isinstance(frame, ChipPortMalformed):
            continue
        try:
            request = decode_td_request(frame)
        except ChipPortMalformed:
            continue
        if not encode_td_request(request).endswith(frame.body):
            raise AssertionError("a request was written otherwise than it was read")
    for frame in answer_stream().feed(data):
        if not isinstance(frame, ChipPortMalformed):
            try:
                decode_td_answer(frame)
            except ChipPortMalformed:
                continue
