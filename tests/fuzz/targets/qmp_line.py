"""Fuzz target: launcher.core.qmp_wire.parse_message either parses or raises our error."""

from __future__ import annotations

from launcher.core.qmp_wire import parse_message
from policy.errors import CvmError


def one(data: bytes) -> None:
    """Feed one input."""
    try:
        parse_message(data)
    except CvmError:
        return
