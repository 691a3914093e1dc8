"""Fuzz target: the signatures of an image are right, or of a kind that is not checked, or refused."""

from __future__ import annotations

from ovmf.errors import PeMalformed
from ovmf.signature import Unsupported, signing_chains


def one(data: bytes) -> None:
    """Feed one input."""
    try:
        chains = signing_chains(data)
    except (PeMalformed, Unsupported):
        return
    if not all(chains):
        raise AssertionError("a chain without a signer")
