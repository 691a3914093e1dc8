"""What guest and emulated TD say to each other over the virtio-serial port ``org.cvm.tdx``.

Frames are those of :mod:`attest.evidence.chip_port`. The port carries what a TD's own interfaces carry: TDG.MR.REPORT
with GetQuote (64 bytes of REPORTDATA in, a quote out) and TDG.MR.RTMR.EXTEND for RTMR3 (a SHA-384 digest in)::

    question 2: REPORTDATA 64 bytes      answer 2: the quote
    question 3: digest 48 bytes          answer 3: RTMR3 as it is now, 48 bytes
                                         answer 1: error text, UTF-8
"""

from __future__ import annotations

from typing import NamedTuple

from attest.evidence.chip_port import (
    ChipPortMalformed,
    ErrorAnswer,
    Frame,
    answer_frame,
    decode_error,
    question_frame,
)

PORT_NAME = "org.cvm.tdx"
REPORT_DATA_BYTES, DIGEST_BYTES = 64, 48
_QUOTE, _EXTEND = 2, 3
_SIZES = {_QUOTE: REPORT_DATA_BYTES, _EXTEND: DIGEST_BYTES}


class QuoteRequest(NamedTuple):
    """A guest asks for a quote over ``report_data`` (64 bytes)."""

    report_data: bytes


class ExtendRequest(NamedTuple):
    """A guest extends RTMR3 with ``digest`` (48 bytes)."""

    digest: bytes


class QuoteAnswer(NamedTuple):
    """The raw quote."""

    quote: bytes


class ExtendAnswer(NamedTuple):
    """RTMR3 after the extension, 48 bytes."""

    rtmr3: bytes


def encode_td_request(request: QuoteRequest | ExtendRequest) -> bytes:
    """The question as it goes over the port."""
    kind = _QUOTE if isinstance(request, QuoteRequest) else _EXTEND
    if len(request[0]) != _SIZES[kind]:
        raise ChipPortMalformed(f"TD request: got {len(request[0])} bytes, want {_SIZES[kind]}")
    return question_frame(kind, request[0])


def decode_td_request(frame: Frame) -> QuoteRequest | ExtendRequest:
    """The question in ``frame``, or :class:`ChipPortMalformed`."""
    want = _SIZES.get(frame.kind)
    if want is None:
        raise ChipPortMalformed(f"TD port: question of kind {frame.kind}, want {_QUOTE} (quote) or {_EXTEND} (extend)")
    if len(frame.body) != want:
        raise ChipPortMalformed(f"TD request: got {len(frame.body)} bytes, want {want}")
    return QuoteRequest(frame.body) if frame.kind == _QUOTE else ExtendRequest(frame.body)


def encode_td_answer(answer: QuoteAnswer | ExtendAnswer) -> bytes:
    """The answer as it goes over the port."""
    return answer_frame(_QUOTE if isinstance(answer, QuoteAnswer) else _EXTEND, answer[0])


def decode_td_answer(frame: Frame) -> QuoteAnswer | ExtendAnswer | ErrorAnswer:
    """The answer in ``frame``, or :class:`ChipPortMalformed`."""
    error = decode_error(frame)
    if error is not None:
        return error
    if frame.kind == _QUOTE:
        return QuoteAnswer(frame.body)
    if frame.kind != _EXTEND or len(frame.body) != DIGEST_BYTES:
        raise ChipPortMalformed(f"TD port: answer of kind {frame.kind} with {len(frame.body)} bytes is none")
    return ExtendAnswer(frame.body)
