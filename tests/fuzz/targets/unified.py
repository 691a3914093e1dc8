"""Fuzz target: a unified kernel image has events, or what is unknown of it is named, or it is refused."""

from __future__ import annotations

from ovmf.errors import PeMalformed
from ovmf.uki import uki_events


def one(data: bytes) -> None:
    """Feed one input."""
    try:
        uki_events(data, "emulated")
    except PeMalformed:
        return
