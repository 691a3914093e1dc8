"""What the cache holds, in which state each thing is, and when it ends."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from attest.collateral.cache import Failure
from attest.collateral.source import CollateralSource
from attest.collateral.wanted import Wanted
from attest.endorsement.anchors import TrustAnchors

GOOD, SOON, STALE, EXPIRED, DAMAGED, MISSING = "good", "expires-soon", "stale", "expired", "damaged", "missing"
SOON_BEFORE = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class ItemStatus:
    """One thing. ``expires`` is a certificate's last day or a list's next update; ``damaged`` things have neither.

    ``state``: ``good``, ``expires-soon`` (within 14 days), ``stale`` (a list past its next update), ``expired`` (a
    certificate), ``damaged`` (does not verify under the trusted roots; fetched again when it is needed).
    """

    wanted: Wanted
    state: str
    fetched: datetime | None = None
    expires: datetime | None = None
    sha256: tuple[str, ...] = ()


def cache_status(source: CollateralSource, anchors: TrustAnchors, now: datetime) -> tuple[ItemStatus, ...]:
    """Everything in the cache by name; nothing is asked. Raises CacheUnusable."""
    return tuple(item_status(source, wanted, anchors, now) for wanted in source.things())


def cache_failures(source: CollateralSource, now: datetime) -> tuple[Failure, ...]:
    """The failures that are remembered now."""
    known = (source.cache.failure(wanted, now) for wanted in source.things("failures"))
    return tuple(failure for failure in known if failure is not None)


def item_status(source: CollateralSource, wanted: Wanted, anchors: TrustAnchors, now: datetime) -> ItemStatus:
    """The status of one thing."""
    held = source.cached(wanted, anchors, now)
    if held is None:
        return ItemStatus(wanted, MISSING if source.cache.stamp(wanted) is None else DAMAGED)
    crl, certificates = held.item.crl, held.item.certificates
    expires = crl.next_update if crl is not None else min(item.not_after for item in certificates)
    parts = (*certificates, *(() if crl is None else (crl,)))
    state = _state(expires, now, late=EXPIRED if crl is None else STALE)
    return ItemStatus(wanted, state, held.fetched, expires, tuple(part.sha256.hex() for part in parts))


def _state(expires: datetime | None, now: datetime, *, late: str) -> str:
    if expires is None or expires < now:
        return late
    return SOON if expires - now < SOON_BEFORE else GOOD
