"""What guest and emulated chip say to each other over the virtio-serial port ``org.cvm.snp``.

Real hardware has no such port: there the kernel asks the AMD secure processor. The emulated chip takes its place on
machines without one, so its wire carries just what the real interface carries: 64 bytes of REPORT_DATA and a VMPL in,
an ATTESTATION_REPORT and a certificate table out.

Every frame, integers little-endian::

    0   4  magic    "CVMq" question, "CVMa" answer
    4   1  version  1
    5   1  kind     question: 1 = extended report; answer: 0 = report, 1 = error
    6   2  zero
    8   4  length of what follows, at most 64 KiB
    12  …  question 1: VMPL u32, REPORT_DATA 64 bytes
           answer 0:   report 1184 bytes, then the certificate table (empty, or as in GHCB 2.03 section 4.1.8.1)
           answer 1:   error text, UTF-8

The port is a byte stream without message borders and the guest may write anything into it, so a reader that meets bytes
that are no frame reports the damage once and continues at the next magic.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from policy.errors import MalformedInput
from policy.wire import ByteReader

PORT_NAME = "org.cvm.snp"
REPORT_BYTES = 1184
REPORT_DATA_BYTES = 64
MAX_BODY = 64 * 1024
MAX_VMPL = 3

_HEADER = Struct("<4sBBHI")
_QUESTION, _ANSWER = b"CVMq", b"CVMa"
_VERSION = 1
_ASK_REPORT = 1
_GIVE_REPORT, _GIVE_ERROR = 0, 1


class ChipPortMalformed(MalformedInput):
    """Bytes on the chip's port that are no valid frame."""

    code = "chip-port.malformed"


class ReportRequest(NamedTuple):
    """A guest asks for a report over ``report_data`` (64 bytes) at privilege level ``vmpl`` (0 to 3)."""

    report_data: bytes
    vmpl: int = 0


class ReportAnswer(NamedTuple):
    """The chip's answer: the raw report (1184 bytes) and the raw certificate table (may be empty)."""

    report: bytes
    certificates: bytes


class ErrorAnswer(NamedTuple):
    """The chip refused the question."""

    text: str


class Frame(NamedTuple):
    """One frame whose header is in order; the body is not looked at yet."""

    magic: bytes
    kind: int
    body: bytes


class FrameStream:
    """Cuts a byte stream into frames of one direction; keeps at most one frame's worth of bytes.

    :meth:`feed` returns frames and, in their place in the stream, a :class:`ChipPortMalformed` for each stretch of
    bytes that was skipped because it is no frame.
    """

    __slots__ = ("_buffer", "_lost", "_magic")

    def __init__(self, magic: bytes) -> None:
        self._magic = magic
        self._buffer = bytearray()
        self._lost = False

    def feed(self, data: bytes) -> list[Frame | ChipPortMalformed]:
        """All frames that ``data`` completes."""
        self._buffer += data
        found: list[Frame | ChipPortMalformed] = []
        while self._buffer:
            start = self._buffer.find(self._magic)
            if start != 0:
                self._resynchronise(start, found)
                if start < 0:
                    break
            if len(self._buffer) < _HEADER.size:
                break
            _, version, kind, zero, length = _HEADER.unpack_from(self._buffer)
            if version != _VERSION or zero or length > MAX_BODY:
                found.append(
                    ChipPortMalformed(f"chip port: frame header {self._buffer[4:12].hex()} is not of version 1")
                )
                del self._buffer[:4]
                self._lost = True
                continue
            end = _HEADER.size + length
            if len(self._buffer) < end:
                break
            found.append(Frame(self._magic, kind, bytes(self._buffer[_HEADER.size : end])))
            del self._buffer[:end]
            self._lost = False
        return found

    def _resynchronise(self, start: int, found: list[Frame | ChipPortMalformed]) -> None:
        """Drop what cannot begin a frame; ``start`` is where the next magic stands, or -1."""
        keep = len(self._buffer) - start if start > 0 else self._magic_prefix()
        dropped = len(self._buffer) - keep
        if not dropped:
            return
        if not self._lost:
            shown = bytes(self._buffer[:16]).hex()
            found.append(ChipPortMalformed(f"chip port: {shown} begins no frame, want {self._magic.hex()}"))
        self._lost = True
        del self._buffer[:dropped]

    def _magic_prefix(self) -> int:
        """Length of the longest end of the buffer that may be the beginning of a magic."""
        return next((n for n in (3, 2, 1) if self._buffer.endswith(self._magic[:n])), 0)


def question_stream() -> FrameStream:
    """For the chip: reads questions."""
    return FrameStream(_QUESTION)


def answer_stream() -> FrameStream:
    """For the guest: reads answers."""
    return FrameStream(_ANSWER)


def encode_request(request: ReportRequest) -> bytes:
    """The question as it goes over the port."""
    if len(request.report_data) != REPORT_DATA_BYTES:
        raise ChipPortMalformed(f"report data: got {len(request.report_data)} bytes, want {REPORT_DATA_BYTES}")
    return _frame(_QUESTION, _ASK_REPORT, request.vmpl.to_bytes(4, "little") + request.report_data)


def decode_request(frame: Frame) -> ReportRequest:
    """The question in ``frame``, or :class:`ChipPortMalformed`."""
    if frame.kind != _ASK_REPORT:
        raise ChipPortMalformed(f"chip port: question of kind {frame.kind}, want {_ASK_REPORT} (report)")
    reader = ByteReader(frame.body, "report request", error=ChipPortMalformed)
    vmpl = reader.u32("VMPL")
    report_data = reader.take(REPORT_DATA_BYTES, "report data")
    reader.end()
    if vmpl > MAX_VMPL:
        raise ChipPortMalformed(f"report request: VMPL {vmpl}, want 0 to {MAX_VMPL}")
    return ReportRequest(report_data, vmpl)


def encode_answer(answer: ReportAnswer | ErrorAnswer) -> bytes:
    """The answer as it goes over the port."""
    if isinstance(answer, ErrorAnswer):
        return _frame(_ANSWER, _GIVE_ERROR, answer.text.encode("utf-8", "replace")[:1024])
    return _frame(_ANSWER, _GIVE_REPORT, answer.report + answer.certificates)


def decode_answer(frame: Frame) -> ReportAnswer | ErrorAnswer:
    """The answer in ``frame``, or :class:`ChipPortMalformed`."""
    error = decode_error(frame)
    if error is not None:
        return error
    if frame.kind != _GIVE_REPORT:
        raise ChipPortMalformed(
            f"chip port: answer of kind {frame.kind}, want {_GIVE_REPORT} (report) or {_GIVE_ERROR} (error)"
        )
    reader = ByteReader(frame.body, "report answer", error=ChipPortMalformed)
    report = reader.take(REPORT_BYTES, "report")
    return ReportAnswer(report, reader.take(reader.remaining, "certificate table"))


def decode_error(frame: Frame) -> ErrorAnswer | None:
    """The error in ``frame``; ``None`` when it is another kind of answer."""
    return ErrorAnswer(frame.body.decode("utf-8", "replace")) if frame.kind == _GIVE_ERROR else None


def question_frame(kind: int, body: bytes) -> bytes:
    """A question of ``kind``; kinds other than 1 are :mod:`attest.evidence.td_port`'s."""
    return _frame(_QUESTION, kind, body)


def answer_frame(kind: int, body: bytes) -> bytes:
    """An answer of ``kind``; kinds other than 0 and 1 are :mod:`attest.evidence.td_port`'s."""
    return _frame(_ANSWER, kind, body)


def _frame(magic: bytes, kind: int, body: bytes) -> bytes:
    if len(body) > MAX_BODY:
        raise ChipPortMalformed(f"chip port: frame of {len(body)} bytes, want at most {MAX_BODY}")
    return _HEADER.pack(magic, _VERSION, kind, 0, len(body)) + body
