"""What a record is about, beside its subject: the chip, the measurement and the VM it can be found by.

Of a decision about a chip also at which level of its firmware it was: platform, product and TCB in words.

Only what a chip signed counts: evidence that was not verified names no chip and no measurement. The same function gives
the index when a record is written and when the index is checked, so an index that lies is noticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

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
_PARTS = ("fmc", "bootloader", "tee", "snp", "microcode")
_BETWEEN = " · "
MAX_LEVEL = 160


@dataclass(frozen=True, slots=True)
class Facts:
    """Lower-case hex of CHIP_ID or PPID and of the launch digest; ``vm`` is a name operators gave; ``level`` is
    :class:`Level` as text.
    """

    chip: str | None = None
    measurement: str | None = None
    vm: str | None = None
    level: str | None = None


class Level(NamedTuple):
    """The platform, the product or family of platforms, and the TCB."""

    platform: str
    product: str
    tcb: str

    def __str__(self) -> str:
        return _BETWEEN.join(self)[:MAX_LEVEL]

    @classmethod
    def parse(cls, text: str) -> Level:
        """The inverse, of a text that was cut off too."""
        platform, _, rest = text.partition(_BETWEEN)
        product, _, tcb = rest.partition(_BETWEEN)
        return cls(platform, product, tcb)


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
    chip = chip_of(claims)
    return Facts(chip, measurement, vm, None if chip is None else _level(_text(body.get("platform")), claims))


def _level(platform: str | None, claims: Mapping[str, object]) -> str | None:
    pck, tcb, reported = claims.get("pck"), claims.get("tcb"), claims.get("reported_tcb")
    if isinstance(pck, Mapping) and isinstance(tcb, Mapping):
        return str(Level(platform or "", f"FMSPC {_text(pck.get('fmspc'))}", _text(tcb.get("status")) or ""))
    if isinstance(reported, Mapping):
        return str(Level(platform or "", _text(claims.get("product")) or "", tcb_text(reported)))
    return None


def tcb_text(parts: Mapping[str, object]) -> str:
    """``bootloader 10, tee 0, snp 24, microcode 84``: JSON keeps no order of a record's members."""
    return ", ".join(f"{name} {parts[name]}" for name in _PARTS if name in parts)


def chip_of(claims: Mapping[str, object]) -> str | None:
    """CHIP_ID of an SNP report, PPID of a quote; ``None`` where the host masks it (all zeros)."""
    pck = claims.get("pck")
    found = _text(pck.get("ppid") if isinstance(pck, Mapping) else claims.get("chip_id"))
    return found if found and found.strip("0") else None


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.hex()
    return value if isinstance(value, str) and value else None
