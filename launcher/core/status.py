"""Lines from the guest's status port ``org.cvm.status``: ``{"v":1,"event":E,"time":T,"detail":{…}}``.

The guest writes them, so they are only ever shown, never believed: what the guest really is stands in the attestation
service's audit log.
"""

from __future__ import annotations

import json

from launcher.core.text import safe_text
from launcher.errors import StatusMalformed
from policy.named import NamedTuple
from policy.strictjson import strict_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_LINE = 8192
MAX_DETAIL_TEXT = 4096
EVENTS = frozenset(
    ("booted", "evidence", "attested", "refused", "unlocked", "payload-output", "running", "failed", "stopped")
)


class StatusEvent(NamedTuple):
    """One line. ``time`` is seconds since the guest booted, by the guest's clock; ``detail`` is cleaned of controls."""

    event: str
    time: float
    detail: dict[str, Any]


def parse_status_line(line: bytes) -> StatusEvent:
    """Decode one line without its newline, or raise :class:`StatusMalformed`. Strings in ``detail`` keep newlines and
    lose every other control character.
    """
    document = strict_json(line, "status line", max_bytes=MAX_LINE, error=StatusMalformed)
    if not isinstance(document, dict):
        raise StatusMalformed("status line: want a JSON object")
    version, event, time, detail = (document.get(key) for key in ("v", "event", "time", "detail"))
    if version != 1 or isinstance(version, bool):
        raise StatusMalformed(f"status line: v: got {safe_text(str(version), 20)}, want 1")
    if not isinstance(event, str) or event not in EVENTS:
        raise StatusMalformed(f"status line: event: got {safe_text(str(event), 40)!r}, want one of the protocol's")
    if not isinstance(time, int | float) or isinstance(time, bool) or not 0 <= time < 1e9:
        raise StatusMalformed(f"status line: time: got {safe_text(str(time), 40)}, want seconds since boot")
    if not isinstance(detail, dict):
        raise StatusMalformed("status line: detail: want a JSON object")
    return StatusEvent(event, float(time), {safe_text(key, 64): _clean(value) for key, value in detail.items()})


def status_line(event: StatusEvent) -> str:
    """The event as one line of the launcher's own log."""
    return json.dumps({"v": 1, "event": event.event, "time": event.time, "detail": event.detail}, ensure_ascii=True)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return "\n".join(safe_text(line, MAX_DETAIL_TEXT) for line in value.replace("\r\n", "\n").split("\n"))
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {safe_text(key, 64): _clean(item) for key, item in value.items()}
    return value
