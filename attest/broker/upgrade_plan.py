"""What people say about an upgrade, as they say it: the same words on a command line and in a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from attest.audit.canonical import rfc3339
from attest.broker.asking import parse_time
from attest.broker.errors import RequestMalformed
from attest.broker.upgrades import Seen, Upgrade, plan_json
from policy.stage import Canary

NEVER = "never"
RETIRE_DAYS = "30"
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Plan:
    """``follows`` names the value that the new one is to follow; the rest says who may use it before it is promoted."""

    follows: str | None = None
    planned: str | None = None
    vms: Sequence[str] = ()
    chips: Sequence[str] = ()
    releases: int | None = None

    def canary(self) -> Canary | None:
        """``None`` where the value follows none. Raises RequestMalformed."""
        if self.follows is None:
            if given := [name for name, value in self._details().items() if value]:
                raise RequestMalformed(f"{given[0]}: want it with next only")
            return None
        chips = tuple(text.lower() for text in self.chips)
        if wrong := [text for text in chips if not text or set(text) - _HEX]:
            raise RequestMalformed(f"canary-chip: got {wrong[0][:40]!r}, want hexadecimal digits")
        if self.releases is not None and not 0 < self.releases < 2**31:
            raise RequestMalformed(f"canary-releases: got {self.releases}, want at least 1")
        return Canary(self.follows, parse_time(self.planned, "planned"), chips, tuple(self.vms), self.releases)

    def _details(self) -> dict[str, object]:
        return {
            "planned": self.planned,
            "canary-vm": self.vms,
            "canary-chip": self.chips,
            "canary-releases": self.releases is not None,
        }


def parse_end(text: str, now: datetime) -> datetime | None:
    """When an old value retires: a number of days, a time, or ``never``. Raises RequestMalformed."""
    if text == NEVER:
        return None
    if text.isascii() and text.isdigit() and len(text) < 5:
        return now + timedelta(days=int(text))
    return parse_time(text, "retire-old")


def progress_json(found: Upgrade, now: datetime) -> dict[str, Any]:
    """Both values with their plans, every VM that was seen on one of them, and how many were last seen on the old."""
    return {
        **{
            side: {"name": entry.name, **plan_json(entry, now)}
            for side, entry in (("old", found.old), ("new", found.new))
        },
        "planned": _time(found.planned),
        "retires": _time(found.retires),
        "vms": [_seen(one) for one in found.vms],
        "behind": sum(not one.moved for one in found.vms),
    }


def _seen(one: Seen) -> dict[str, Any]:
    return {"chip": one.chip, "vm": one.vm, "old": _time(one.old), "new": _time(one.new), "moved": one.moved}


def _time(when: datetime | None) -> str | None:
    return None if when is None else rfc3339(when)
