"""A reference value's place in an upgrade: the next one that a few may use before the others, the old one with an end.

A stage is not part of the reference value's file: it is what operators say about it while guests move from one
measurement to the next. Most values have none and are simply in force.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple


class Guest(NamedTuple):
    """Who asks: its chip (lower-case hex of CHIP_ID or PPID) and the name its init-data gives the VM."""

    chip: str | None = None
    vm: str | None = None


NOBODY = Guest()


@dataclass(frozen=True, slots=True)
class Canary:
    """Who may use the next value before it is promoted: these chips and VMs, or with neither anybody, but only for
    ``releases`` releases in all; no chip, no VM and no number is nobody. ``follows`` names the value it is to replace,
    ``planned`` when.
    """

    follows: str
    planned: datetime | None = None
    chips: tuple[str, ...] = ()
    vms: tuple[str, ...] = ()
    releases: int | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """``canary`` while it is the next value; ``retires`` is the moment from which it no longer counts."""

    canary: Canary | None = None
    retires: datetime | None = None

    def obstacle(self, guest: Guest, now: datetime) -> str | None:
        """Why the value does not count for this guest now, in words; ``None`` where it does."""
        if self.retires is not None and now >= self.retires:
            return f"was retired on {self.retires:%Y-%m-%d %H:%M}Z"
        canary = self.canary
        if canary is None:
            return None
        if canary.chips or canary.vms:
            named = guest.chip in canary.chips or guest.vm in canary.vms
            return None if named else f"is to follow {canary.follows}, and this guest is not in its canary"
        return f"is to follow {canary.follows}, and not promoted yet" if canary.releases is None else None

    @property
    def remark(self) -> str | None:
        """What is not for ever about it, in words."""
        if self.canary is not None:
            return f"is to follow {self.canary.follows}, and used by its canary"
        return None if self.retires is None else f"retires on {self.retires:%Y-%m-%d %H:%M}Z"


def stage_json(stage: Stage) -> dict[str, Any]:
    """Plain values, times as RFC 3339."""
    canary = stage.canary
    return {
        "retires": _text(stage.retires),
        "canary": None
        if canary is None
        else {
            "follows": canary.follows,
            "planned": _text(canary.planned),
            "chips": list(canary.chips),
            "vms": list(canary.vms),
            "releases": canary.releases,
        },
    }


def stage_from_json(value: Any) -> Stage:
    """The inverse. Raises KeyError, TypeError or ValueError for anything else."""
    canary = value["canary"]
    if canary is not None:
        canary = Canary(
            str(canary["follows"]),
            _time(canary["planned"]),
            tuple(map(str, canary["chips"])),
            tuple(map(str, canary["vms"])),
            None if canary["releases"] is None else int(canary["releases"]),
        )
    return Stage(canary, _time(value["retires"]))


def _text(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
