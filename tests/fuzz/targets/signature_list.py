"""Fuzz target: a signature database is read, or refused, and judges a signed image as ``db`` and as ``dbx``."""

from __future__ import annotations

from pathlib import Path

from ovmf.authority import authority_events, parse_database
from ovmf.errors import VariablesMalformed
from ovmf.variables import IMAGE_SECURITY
from policy.errors import CvmError

_IMAGE = (Path(__file__).parents[1] / "corpus" / "signed_image" / "one").read_bytes()


def one(data: bytes) -> None:
    """Feed one input."""
    try:
        found = parse_database(data, "db")
        if sum(16 + len(entry.data) for entry in found) > len(data):
            raise AssertionError("entries of more bytes than there are")
    except VariablesMalformed:
        return
    for name in ("db", "dbx"):
        try:
            authority_events(_IMAGE, {(IMAGE_SECURITY, name): data})
        except CvmError:
            pass
