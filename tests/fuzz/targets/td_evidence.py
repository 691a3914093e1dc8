"""A quote or an event log as ``cvm explain`` reads it."""

from __future__ import annotations

from launcher.core.td_evidence import events_that_replay, is_td_quote, log_entries, registers_of_quote
from policy.errors import CvmError


def one(data: bytes) -> None:
    """What parses can be replayed and shown."""
    try:
        if is_td_quote(data):
            reported = registers_of_quote(data)
            if len(reported.rtmrs) != 4:
                raise AssertionError("a quote without four registers")
            return
        entries = log_entries(data)
    except CvmError:
        return
    events_that_replay(entries, [bytes(48)] * 4, ())
