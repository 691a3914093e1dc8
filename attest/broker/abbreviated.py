"""Chips and measurements by the digits they begin with: tables show them cut off, and nobody types 128 digits."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Literal

from sqlalchemy import Connection

from attest.broker.errors import RequestMalformed
from attest.store import records
from attest.store.records import Filter

_DIGITS = re.compile(r"[0-9a-f]{8,128}")


def whole(tx: Connection, name: Literal["chip", "measurement"], text: str) -> str:
    """The one chip or measurement on record that begins with ``text``; ``text`` where none does.

    Raises RequestMalformed where several do, or where it is no hexadecimal number or too short to mean one.
    """
    digits = text.removesuffix("…").lower()
    if not _DIGITS.fullmatch(digits):
        raise RequestMalformed(f"{name}: got {text[:80]!r}, want hexadecimal digits, the first 8 at least")
    found = records.beginning(tx, name, digits)
    if digits in found or not found:
        return digits
    if len(found) > 1:
        raise RequestMalformed(f"{name}: {', '.join(found)} and maybe more begin with {digits}, want more digits")
    return found[0]


def completed(tx: Connection, wanted: Filter) -> Filter:
    """The filter with chip and measurement in full. Raises RequestMalformed as :func:`whole`."""
    return replace(
        wanted,
        chip=None if wanted.chip is None else whole(tx, "chip", wanted.chip),
        measurement=None if wanted.measurement is None else whole(tx, "measurement", wanted.measurement),
    )
