"""What a record is about, beside its subject: the chip, the measurement and the VM it can be found by.

Only what a chip signed counts: evidence that was not verified names no chip and no measurement. The same function gives
the index when a record is written and when the index is checked, so an index that lies is noticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from attest.audit.record import (
    DECISION,
    KEY_ROTATION,
    LAUNCH,
    LAUNCH_END,
    REFERENCE_ADD,
    REFERENCE_PROMOTE,
    REFERENCE_RETIRE,
    REFUSED_RELEASE,
    RELEASE,
)

_MEASUREMENTS = ("measurement", "mrtd", "mrenclave")


@dataclass(frozen=True, slots=True)
class Facts:
    """Lower-case hex of CHIP_ID or PPID and of the launch digest; ``vm`` is a name operators gave."""

    chip: str | None = None
    measurement: str | None = None
    vm: str | None = None


NONE = Facts()


def facts_of(kind: str, subject: str, body: Mapping[str, object]) -> Facts:
    """The facts of a record, from its body as written or as read again."""
    if kind == DECISION:
        return _of_decision(body)
    if kind in (RELEASE, REFUSED_RELEASE, LAUNCH, LAUNCH_END, KEY_ROTATION):
        return Facts(_text(body.get("chip")), _text(body.get("measurement")), _text(body.get("vm")))
    if kind in (REFERENCE_ADD, REFERENCE_PROMOTE, REFERENCE_RETIRE):
        return Facts(None, _text(body.get("launch_digest")), subject)
    return NONE


def _of_decision(body: Mapping[str, object]) -> Facts:
    claims, matched = body.get("claims"), body.get("matched")
    if not isinstance(claims, Mapping):
        return NONE
    measurement = next((_text(claims[name]) for name in _MEASUREMENTS if name in claims), None)
    vm = _text(matched[0]) if isinstance(matched, (list, tuple)) and matched else None
    return Facts(chip_of(claims), measurement, vm)


def chip_of(claims: Mapping[str, object]) -> str | None:
    """CHIP_ID of an SNP report, PPID of a quote; ``None`` where the host masks it (all zeros)."""
    pck = claims.get("pck")
    found = _text(pck.get("ppid") if isinstance(pck, Mapping) else claims.get("chip_id"))
    return found if found and found.strip("0") else None


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.hex()
    return value if isinstance(value, str) and value else None
