"""Fuzz target: an image has an Authenticode digest, or is refused."""

from __future__ import annotations

from ovmf.errors import PeMalformed
from ovmf.pe import authenticode


def one(data: bytes) -> None:
    """Feed one input."""
    try:
        authenticode(data)
    except PeMalformed:
        return
