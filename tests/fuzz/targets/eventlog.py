"""Fuzz target: a log parses to events that tile its bytes, every event decodes, and the log replays; or our error."""

from __future__ import annotations

from attest.evidence.event_data import decode_log
from attest.evidence.eventlog_json import parse_any_log
from attest.verifier.eventlog import measured_events, replay_rtmrs
from policy.errors import MalformedInput
from policy.measured import replay
from policy.measured_facts import event_facts


def one(data: bytes) -> None:
    """What was accepted is exactly the log's bytes, and both replays agree."""
    try:
        log = parse_any_log(data)
    except MalformedInput:
        return
    if log.raw:
        start = log.header.size
        if b"".join([log.raw[:start], *map(log.raw_of, log.events)]) != log.raw or not data.startswith(log.raw):
            raise RuntimeError("events do not tile the log")
    for item in decode_log(log):
        if not (item.name.isprintable() and item.detail.isprintable()):
            raise RuntimeError("an event is shown with control characters")
        if item.proven and not item.extended:
            raise RuntimeError("an event that extends nothing is proven")
    try:
        events = measured_events(log)
    except MalformedInput:
        return
    if replay(events) != replay_rtmrs(log):
        raise RuntimeError("two replays of one log differ")
    event_facts(events)
