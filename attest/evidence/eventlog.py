"""Measured-boot event logs: CCEL (confidential guests) and TCG crypto-agile (TPM). Parsed, not verified.

    first entry, in the old form:  u32 register, u32 type = 3, 20 zeros, u32 size, "Spec ID Event03\\0" and
      u32 platform class, u8 minor, u8 major = 2, u8 errata, u8 words of a UINTN (1 or 2),
      u32 algorithms, each u16 id, u16 digest length; u8 length and bytes of vendor information
    further entries:  u32 register, u32 type, u32 digests, each u16 algorithm and the digest; u32 size, event data

All little-endian. A log lies in a memory area that firmware filled with 0xFF (edk2) or zeros: where an entry would
begin, such filling up to the very end of the bytes ends the log, and nothing else does.

Which registers the numbers mean is not in the format. A CCEL says 1..4 for RTMR0..3 and 0 for MRTD; edk2 writes
register 1 in the first entry of a CCEL, TPM firmware 0.

Sources: TCG, *PC Client Platform Firmware Profile Specification*, 1.06, section 10 "Event Logging"; UEFI 2.10, section
38 "Confidential Computing"; Intel 344991, *TDX Virtual Firmware Design Guide*, section 8.3.
"""

from __future__ import annotations

import base64
import binascii
from struct import Struct
from typing import NamedTuple

from attest.evidence.errors import EvidenceMalformed, EvidenceUnsupported
from attest.evidence.event_types import ALGORITHMS, EV_NO_ACTION, SHA384, algorithm_name
from policy.wire import ByteReader

CCEL, TCG2 = "ccel", "tcg2"
MAX_LOG = 4 << 20
MAX_EVENTS = 65_536
CCEL_REGISTERS, PCRS = 5, 24
_MAX_ALGORITHMS = 8
_MAX_DATA = 1 << 20
_SIGNATURE = b"Spec ID Event03\0"
_LEGACY = (b"Spec ID Event00\0", b"Spec ID Event02\0")
_OLD_HEADER = 32
_HEAD = Struct("<3I")


class LogEvent(NamedTuple):
    """One entry. ``number`` counts from 1, ``offset`` and ``size`` say where its bytes stand in the log; ``mr`` is the
    register as logged; ``digests`` are (algorithm, digest) in the log's order; ``data`` is whatever firmware wrote,
    which a digest may or may not cover.
    """

    number: int
    offset: int
    size: int
    mr: int
    type: int
    digests: tuple[tuple[int, bytes], ...]
    data: bytes

    def digest(self, algorithm: int) -> bytes:
        """The digest of one bank; ``KeyError`` where the log has no such bank."""
        return dict(self.digests)[algorithm]


class EventLog(NamedTuple):
    """A log without its filling. ``kind`` is ``ccel`` or ``tcg2``, ``algorithms`` the banks in the log's order."""

    kind: str
    raw: bytes
    algorithms: tuple[int, ...]
    header: LogEvent
    events: tuple[LogEvent, ...]

    def raw_of(self, event: LogEvent) -> bytes:
        """The entry's own bytes; empty for an event that came in JSON."""
        return self.raw[event.offset : event.offset + event.size]


def parse_event_log(data: bytes, kind: str | None = None) -> EventLog:
    """A whole log.

    ``kind`` says what the register numbers mean; ``None`` tells it from the log itself: a first entry in register 1,
    or a SHA-384 bank alone that never names a register above 4, is a CCEL. Who compares with a quote says ``ccel``.

    Raises :class:`EvidenceMalformed`, and :class:`EvidenceUnsupported` for a TCG 1.2 log (SHA-1 only) or an unknown
    algorithm.
    """
    if len(data) > MAX_LOG:
        raise EvidenceMalformed(f"event log: {len(data)} bytes, want at most {MAX_LOG}")
    data = bytes(data)
    reader = ByteReader(data, "event log", error=EvidenceMalformed)
    header, sizes = _header(reader)
    events, end = _events(reader, data, sizes)
    algorithms = tuple(sizes)
    kind = kind or _kind(header, algorithms, events)
    _check_registers(kind, header, events)
    return EventLog(kind, data[:end], algorithms, header, events)


def decode_cc_eventlog(value: object) -> EventLog:
    """The member ``cc_eventlog`` of KBS evidence: a CCEL in base64, with or without its filling."""
    if not isinstance(value, str) or len(value) > MAX_LOG // 3 * 4 + 4:
        raise EvidenceMalformed(f"cc_eventlog: got {type(value).__name__}, want base64 of at most {MAX_LOG} bytes")
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise EvidenceMalformed("cc_eventlog: is not base64") from None
    return parse_event_log(data, CCEL)


def _header(reader: ByteReader) -> tuple[LogEvent, dict[int, int]]:
    """The first entry and the digest lengths it declares."""
    index, kind = reader.u32("first register"), reader.u32("first type")
    if kind != EV_NO_ACTION or index > 1:
        raise reader.fail(f"first entry has type 0x{kind:x} in register {index}, want 0x3 (no action) in 0 or 1")
    digest = reader.take(20, "first digest")
    size = reader.u32("first event size")
    body = reader.take(min(size, _MAX_DATA + 1), "first event")
    if body[:16] != _SIGNATURE:
        if body[:16] in _LEGACY or any(digest):
            raise EvidenceUnsupported("event log: a TCG 1.2 log with SHA-1 digests only, want Spec ID Event03")
        raise reader.fail(f"first event begins {body[:16].hex()}, want {_SIGNATURE.hex()} (Spec ID Event03)")
    if any(digest):
        raise reader.fail(f"digest of the first entry is {digest.hex()}, want zeros")
    sizes = _algorithms(ByteReader(body, "event log", error=EvidenceMalformed, base=_OLD_HEADER))
    return LogEvent(0, 0, _OLD_HEADER + size, index, kind, (), body), sizes


def _algorithms(reader: ByteReader) -> dict[int, int]:
    """TCG_EfiSpecIdEvent: the digest length of each bank."""
    reader.skip(len(_SIGNATURE), "signature")
    reader.skip(4, "platform class")
    minor, major = reader.u8("minor version"), reader.u8("major version")
    reader.skip(1, "errata")
    words = reader.u8("UINTN size")
    if major != 2 or minor != 0 or words not in (1, 2):
        raise reader.fail(f"version {major}.{minor} with UINTN size {words}, want 2.0 with 1 or 2")
    count = reader.u32("algorithm count")
    if not 1 <= count <= _MAX_ALGORITHMS:
        raise reader.fail(f"{count} digest algorithms, want 1 to {_MAX_ALGORITHMS}")
    sizes: dict[int, int] = {}
    for _ in range(count):
        algorithm, size = reader.u16("algorithm"), reader.u16("digest length")
        if algorithm not in ALGORITHMS:
            raise EvidenceUnsupported(f"event log: digest algorithm 0x{algorithm:x} is not known")
        if size != ALGORITHMS[algorithm][1] or algorithm in sizes:
            raise reader.fail(f"{algorithm_name(algorithm)} of {size} bytes, want {ALGORITHMS[algorithm][1]} and once")
        sizes[algorithm] = size
    reader.skip(reader.u8("vendor information length"), "vendor information")
    reader.end()
    return sizes


def _events(reader: ByteReader, data: bytes, sizes: dict[int, int]) -> tuple[tuple[LogEvent, ...], int]:
    """Entries up to the filling or the end of the bytes, and the offset where they end."""
    events: list[LogEvent] = []
    banks = len(sizes)
    while True:
        offset = reader.offset
        if offset == len(data) or (data[offset] in (0, 0xFF) and _is_filling(data, offset)):
            return tuple(events), offset
        index, kind, count = reader.unpack(_HEAD, "register, type and digest count")
        if count != banks:
            raise reader.fail(f"event at 0x{offset:X}: {count} digests, want {banks}")
        digests = _digests(reader, sizes, offset)
        size = reader.u32("event size")
        if size > _MAX_DATA:
            raise reader.fail(f"event at 0x{offset:X}: {size} bytes of data, want at most {_MAX_DATA}")
        body = reader.take(size, "event data")
        events.append(LogEvent(len(events) + 1, offset, reader.offset - offset, index, kind, digests, body))
        if len(events) > MAX_EVENTS:
            raise reader.fail(f"more than {MAX_EVENTS} events")


def _digests(reader: ByteReader, sizes: dict[int, int], offset: int) -> tuple[tuple[int, bytes], ...]:
    """One digest of each bank, in any order."""
    found = []
    for _ in sizes:
        algorithm = reader.u16("algorithm")
        if algorithm not in sizes:
            raise reader.fail(f"event at 0x{offset:X}: algorithm 0x{algorithm:x}, want one of the first entry's")
        found.append((algorithm, reader.take(sizes[algorithm], "digest")))
    if len(found) > 1 and len(dict(found)) != len(found):
        raise reader.fail(f"event at 0x{offset:X}: two digests of one algorithm, want one of each")
    return tuple(found)


def _is_filling(data: bytes, offset: int) -> bool:
    """Only 0xFF, or only zeros, from here to the end. An entry cannot look so: it has at least one digest."""
    first = data[offset]
    # The common entry differs within a few bytes: do not copy the rest of the log for each.
    head = data[offset : offset + 12]
    return head.count(first) == len(head) and data.count(first, offset) == len(data) - offset


def _kind(header: LogEvent, algorithms: tuple[int, ...], events: tuple[LogEvent, ...]) -> str:
    if header.mr == 1:
        return CCEL
    return CCEL if algorithms == (SHA384,) and all(event.mr < CCEL_REGISTERS for event in events) else TCG2


def _check_registers(kind: str, header: LogEvent, events: tuple[LogEvent, ...]) -> None:
    limit, what = (CCEL_REGISTERS, "CCEL") if kind == CCEL else (PCRS, "TPM")
    if kind == TCG2 and header.mr:
        raise EvidenceMalformed("event log: first entry is in register 1, want 0 in a TPM log")
    for event in events:
        # TCG allows an EV_NO_ACTION outside of every register.
        if event.mr >= limit and not (event.type == EV_NO_ACTION and event.mr == 0xFFFFFFFF):
            raise EvidenceMalformed(
                f"event log: event {event.number} at 0x{event.offset:X} is in register {event.mr}, "
                f"want 0 to {limit - 1} in a {what} log"
            )
