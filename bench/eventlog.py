"""Event logs: 10,000 events parsed and replayed, and parsed, replayed, decoded and proven. No peer does this in Python.

The log is like one of a GRUB boot: mostly lines of text, with variables and images among them. CPU time of one core.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any

from attest.evidence.event_types import EV_EFI_VARIABLE_DRIVER_CONFIG, EV_IPL, SHA384
from attest.evidence.eventlog import CCEL, parse_event_log
from attest.evidence.eventlog_build import NewEvent, build_event_log
from attest.verifier.eventlog import replay_rtmrs, verify_event_log
from policy.measured import replay

EVENTS, MILLISECONDS, ROUNDS = 10_000, 100.0, 7
_VARIABLE = bytes.fromhex(
    "61dfe48bca93d211aa0d00e098032b8c0a00000000000000010000000000000053006500630075007200650042006f006f00740001"
)


def run() -> list[dict[str, Any]]:
    """The rows of this comparison."""
    data = _log()
    rtmrs = replay_rtmrs(parse_event_log(data, CCEL))
    events = verify_event_log(parse_event_log(data, CCEL), rtmrs)
    if replay(events) != rtmrs or len(events) != EVENTS or not all(event.proven for event in events):
        raise SystemExit("bench: the log was not replayed as it was written")
    return [
        _row("event log, parsed and replayed", lambda: replay_rtmrs(parse_event_log(data, CCEL))),
        _row("event log, verified and decoded", lambda: verify_event_log(parse_event_log(data, CCEL), rtmrs)),
    ]


def _log() -> bytes:
    events = []
    for number in range(EVENTS):
        if number % 10:
            line = f"set variable_{number}=value of a usual length".encode()
            events.append(_event(3, EV_IPL, b"grub_cmd: " + line + b"\0", line))
        else:
            events.append(_event(1, EV_EFI_VARIABLE_DRIVER_CONFIG, _VARIABLE, _VARIABLE))
    return build_event_log(events, size=4 << 20)


def _event(index: int, kind: int, data: bytes, covered: bytes) -> NewEvent:
    return NewEvent(index, kind, ((SHA384, hashlib.sha384(covered).digest()),), data)


def _row(name: str, work: Callable[[], object]) -> dict[str, Any]:
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        best = min(best, (time.process_time() - start) * 1e3)
    return {
        "name": name,
        "ours": f"{best:.0f} ms",
        "peer": "-",
        "ratio": "-",
        "target": f"< {MILLISECONDS:.0f} ms for {EVENTS} events",
        "met": best < MILLISECONDS,
        "detail": f"CPU time, best of {ROUNDS}",
    }
