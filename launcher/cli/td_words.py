"""MRTD, RTMRs and their events, for people and for scripts."""

from __future__ import annotations

from collections.abc import Sequence

from launcher.core.text import safe_text
from policy.measured import MeasuredEvent
from policy.reference_tdx import event_to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from launcher.io.td_measurement import TdMeasured  # its import would double the time of a plan without a TD


def td_members(measured: TdMeasured) -> dict[str, Any]:
    """Members ``mrtd``, ``rtmr`` and ``unpredicted`` of a JSON document."""
    found = measured.prediction
    return {
        "mrtd": found.mrtd.hex(),
        "rtmr": [None if value is None else value.hex() for value in found.rtmrs],
        "unpredicted": list(found.unpredicted),
    }


def td_lines(measured: TdMeasured) -> list[str]:
    """The registers, and what keeps one from being predicted."""
    found = measured.prediction
    lines = [
        f"  RTMR{number}     {'not predicted' if value is None else value.hex()}"
        for number, value in enumerate(found.rtmrs)
    ]
    return lines + [f"  unknown   {safe_text(text)}" for text in found.unpredicted]


def event_lines(events: Sequence[MeasuredEvent]) -> list[str]:
    """One line per event, in the order of measurement."""
    return [
        f"  RTMR{event.register} {event.digest.hex()} {safe_text(event.name, 60)}"
        + (f"  {safe_text(event.detail, 120)}" if event.detail else "")
        for event in events
    ]


def event_members(events: Sequence[MeasuredEvent]) -> list[dict[str, Any]]:
    """The same as JSON."""
    return [event_to_json(event) for event in events]
