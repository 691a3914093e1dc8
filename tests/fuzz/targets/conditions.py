"""Release conditions: any bytes are conditions or our error."""

from __future__ import annotations

from policy.errors import ConfigInvalid
from policy.release_conditions import parse_conditions


def one(data: bytes) -> None:
    """One document."""
    try:
        parse_conditions(data)
    except ConfigInvalid:
        return
