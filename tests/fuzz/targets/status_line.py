"""Fuzz target: launcher.core.status.parse_status_line either parses or raises our error."""

from __future__ import annotations

from launcher.core.status import parse_status_line
from policy.errors import CvmError


def one(data: bytes) -> None:
    """Feed one input."""
    try:
        parse_status_line(data)
    except CvmError:
        return
