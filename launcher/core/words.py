"""What happened, in a sentence for a person. Everything a guest said goes through :func:`safe_text`."""

from __future__ import annotations

from launcher.core.progress import Seen
from launcher.core.text import safe_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FIXED = {
    ("console", "kernel"): "the kernel starts",
    ("qemu", "SHUTDOWN"): "QEMU: the machine goes down",
    ("guest", "stopped"): "the guest powers off",
}


def sentence(seen: Seen) -> str:
    """One line without a time stamp; several for a payload's output."""
    fixed = _FIXED.get((seen.source, seen.event))
    if fixed is not None:
        return fixed
    if seen.source == "qemu":
        return f"QEMU: {safe_text(seen.event, 60)}"
    if seen.source == "guest":
        return _guest(seen.event, seen.detail)
    text = seen.detail.get("text")
    return safe_text(f"{seen.event}: {text}" if isinstance(text, str) else seen.event)


def _guest(event: str, detail: dict[str, Any]) -> str:
    def word(key: str, limit: int = 400) -> str:
        value = detail.get(key)
        return safe_text(value, limit) if isinstance(value, str) else ""

    if event == "payload-output":
        lines = str(detail.get("text", "")).rstrip("\n").split("\n")
        return "\n".join(f"| {safe_text(line)}" for line in lines)
    if event == "booted":
        return f"the agent reports (kernel {word('kernel', 60) or 'unknown'})"
    if event == "evidence":
        return f"evidence: from {word('source', 60) or 'somewhere'}, launch digest {word('measurement', 16) or '?'}"
    if event == "attested":
        return f"attested: the guest says the service answered {word('status', 60) or 'yes'}"
    if event == "unlocked":
        return f"disk {word('disk', 60) or '?'} unlocked"
    if event == "running":
        return f"running{': payload ' + word('payload', 60) if word('payload', 60) else ''}"
    return f"{event}: {word('message') or 'no reason given'}"
