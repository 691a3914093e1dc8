"""Event logs in JSON as the dstack guest agent reports them: registers 0 to 3, digest and data in hexadecimal.

    [{"imr": 0, "event_type": 2147483659, "digest": "…", "event": "", "event_payload": "…"}, …]

Events of firmware and kernel are those of the CCEL. Run-time events (type 0x08000001, RTMR3) have a name; their digest
is SHA-384(u32 type || ":" || name || ":" || payload) and may be left out. Source: Dstack-TEE, ``cc-eventlog``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from attest.evidence.errors import EvidenceMalformed
from attest.evidence.event_types import EV_NO_ACTION, EV_RUNTIME, SHA384
from attest.evidence.eventlog import CCEL, MAX_EVENTS, MAX_LOG, EventLog, LogEvent, parse_event_log
from policy.strictjson import strict_json

_REGISTERS = 4
_DIGEST = 48
_MEMBERS = {"imr", "event_type", "digest", "event", "event_payload"}
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})*")


def parse_any_log(data: bytes, kind: str | None = None) -> EventLog:
    """A binary log (:func:`parse_event_log`) or, where the bytes begin an array, one in JSON."""
    return parse_json_log(data) if data.lstrip()[:1] == b"[" else parse_event_log(data, kind)


def parse_json_log(data: bytes) -> EventLog:
    """The log as a CCEL (register = RTMR + 1) without raw bytes. Raises :class:`EvidenceMalformed`."""
    value = strict_json(data, "event log", max_bytes=MAX_LOG, error=EvidenceMalformed)
    if not isinstance(value, list) or len(value) > MAX_EVENTS:
        raise EvidenceMalformed(f"event log: want an array of at most {MAX_EVENTS} events")
    events = tuple(_event(number, item) for number, item in enumerate(value, 1))
    return EventLog(CCEL, b"", (SHA384,), LogEvent(0, 0, 0, 1, EV_NO_ACTION, (), b""), events)


def _event(number: int, item: object) -> LogEvent:
    what = f"event log: event {number}"
    if not isinstance(item, dict) or set(item) != _MEMBERS:
        raise EvidenceMalformed(f"{what}: want an object with {', '.join(sorted(_MEMBERS))}")
    register, kind = item["imr"], item["event_type"]
    if type(register) is not int or not 0 <= register < _REGISTERS:
        raise EvidenceMalformed(f"{what}: imr {str(register)[:20]}, want 0 to {_REGISTERS - 1}")
    if type(kind) is not int or not 0 <= kind < 1 << 32:
        raise EvidenceMalformed(f"{what}: event_type {str(kind)[:20]}, want 32 bits")
    data = _hex(item, "event_payload", what)
    digest = _hex(item, "digest", what)
    if kind == EV_RUNTIME:
        data = _runtime_bytes(item["event"], data, what)
        digest = digest or hashlib.sha384(data).digest()
    elif item["event"] != "":
        raise EvidenceMalformed(f"{what}: has a name, which only run-time events have")
    if len(digest) != _DIGEST:
        raise EvidenceMalformed(f"{what}: digest of {len(digest)} bytes, want {_DIGEST}")
    return LogEvent(number, 0, 0, register + 1, kind, ((SHA384, digest),), data)


def _runtime_bytes(name: object, payload: bytes, what: str) -> bytes:
    """What is hashed. A colon in a name would let two names share one digest, so it is refused."""
    if not isinstance(name, str) or ":" in name:
        raise EvidenceMalformed(f"{what}: event {str(name)[:40]!r}, want a name without a colon")
    return b":".join((EV_RUNTIME.to_bytes(4, "little"), name.encode("utf-8", "surrogatepass"), payload))


def _hex(item: Mapping[str, object], member: str, what: str) -> bytes:
    value = item[member]
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise EvidenceMalformed(f"{what}: {member}: want hexadecimal digits")
    return bytes.fromhex(value)
