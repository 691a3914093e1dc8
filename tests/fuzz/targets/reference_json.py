"""Fuzz target: policy.reference.reference_from_bytes either parses or raises our error."""

from __future__ import annotations

from policy.errors import CvmError
from policy.reference import reference_from_bytes


def one(data: bytes) -> None:
    """Feed one input."""
    try:
        reference_from_bytes(data)
    except CvmError:
        return
