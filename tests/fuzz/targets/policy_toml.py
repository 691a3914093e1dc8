"""Fuzz target: policy.document.parse_policy either parses or raises our error."""

from __future__ import annotations

from policy.document import parse_policy
from policy.errors import CvmError


def one(data: bytes) -> None:
    """Feed one input."""
    try:
        parse_policy(data)
    except CvmError:
        return
