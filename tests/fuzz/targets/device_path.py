"""Fuzz target: a device path becomes printable text, or our error."""

from __future__ import annotations

from attest.evidence.device_path import device_path_text
from policy.errors import MalformedInput


def one(data: bytes) -> None:
    """No bytes of a path reach a terminal as they are."""
    try:
        text = device_path_text(data)
    except MalformedInput:
        return
    if not text.isprintable() or len(text) > 16 * len(data) + 4096:
        raise RuntimeError("a path is shown with control characters, or out of proportion")
