"""What the cache holds of Intel's, in which state each thing is, and when it ends."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from attest.collateral.cache import Failure
from attest.collateral.intel_source import PcsSource
from attest.collateral.intel_wanted import IntelWanted
from attest.collateral.status import DAMAGED, EXPIRED, GOOD, MISSING, SOON, STALE
from attest.endorsement.intel import IntelAnchors

WARNINGS = (1, 7, 30)
"""Days before the end of which ``attest collateral status`` speaks, the smallest that applies."""
_LONG = timedelta(days=60)


@dataclass(frozen=True, slots=True)
class IntelItemStatus:
    """One thing. ``state``: as for AMD's things; ``expires-soon`` when ``warning_days`` is set, ``expired`` for a
    document (the verifier refuses it), ``stale`` for a list.

    ``number`` is the evaluation data number or the CRL number.
    """

    wanted: IntelWanted
    state: str
    fetched: datetime | None = None
    issued: datetime | None = None
    expires: datetime | None = None
    number: int | None = None
    root: str | None = None
    warning_days: int | None = None
    sha256: tuple[str, ...] = ()


def intel_status(source: PcsSource, anchors: IntelAnchors, now: datetime) -> tuple[IntelItemStatus, ...]:
    """Everything in the cache by name; nothing is asked. Raises CacheUnusable."""
    return tuple(intel_item_status(source, wanted, anchors, now) for wanted in source.things())


def intel_failures(source: PcsSource, now: datetime) -> tuple[Failure, ...]:
    """The failures that are remembered now."""
    known = (source.cache.failure(wanted, now) for wanted in source.things("failures"))
    return tuple(failure for failure in known if failure is not None)


def intel_item_status(source: PcsSource, wanted: IntelWanted, anchors: IntelAnchors, now: datetime) -> IntelItemStatus:
    """The status of one thing."""
    held = source.cached(wanted, anchors, now)
    if held is None:
        return IntelItemStatus(wanted, MISSING if source.cache.stamp(wanted) is None else DAMAGED)
    item = held.item
    warning = warning_days(item.issued, item.expires, now)
    state = GOOD if warning is None else SOON
    if item.expires <= now:
        state, warning = STALE if wanted.is_list else EXPIRED, None
    digests = tuple(hashlib.sha256(part).hexdigest() for part in item.parts)
    return IntelItemStatus(
        wanted, state, held.fetched, item.issued, item.expires, item.number, item.root, warning, digests
    )


def warning_days(issued: datetime, expires: datetime, now: datetime) -> int | None:
    """The smallest of 1, 7 and 30 days within which it ends; 30 counts only for what lives longer than two months,
    because Intel's documents never live longer than 30 days.
    """
    for days in WARNINGS:
        if expires - now <= timedelta(days=days):
            return None if days == WARNINGS[-1] and expires - issued < _LONG else days
    return None
