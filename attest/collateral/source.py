"""Collateral from the cache, or from AMD when it is not there or too old: one fetch at a time for each thing.

    VCEK     kept for ever: the key of (product, hwID, TCB) never changes
    chain    asked for again after 30 days
    CRL      asked for again after a day, or when its next update is due

What was asked for again in vain stays in use (the last good one); a list that is past its next update is reported as
stale by the verifier. An older list never replaces a newer one. A failure is remembered for a short time, so that an
outage costs one wait and not one for each guest.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from attest.collateral.cache import MAX_FAILURE, Cache, Entry, Failure
from attest.collateral.check import Item, check_answer, check_parts
from attest.collateral.clock import Budget, Clock
from attest.collateral.errors import (
    CollateralNotFound,
    CollateralPaced,
    CollateralRefused,
    CollateralUnavailable,
)
from attest.collateral.kds_settings import KdsSettings
from attest.collateral.wanted import Kind, Wanted
from attest.endorsement.amd import ChainCache
from attest.endorsement.anchors import TrustAnchors
from attest.endorsement.pool import EndorsementSet

_REFRESH = {Kind.CHAIN: timedelta(days=30), Kind.CRL: timedelta(days=1)}
_REFRESH_STALE = timedelta(minutes=5)  # where AMD itself answers with a list past its next update
_REMEMBER = ((CollateralNotFound, timedelta(minutes=10)), (CollateralRefused, timedelta(minutes=5)))
_REMEMBER_OUTAGE = timedelta(seconds=30)
_REMEMBERED_ITEMS = 4096


@dataclass(frozen=True, slots=True)
class Held:
    """A verified item, when it was fetched or confirmed, and why it is older than wanted, if it is."""

    item: Item
    fetched: datetime
    problem: CollateralUnavailable | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    stamp: tuple[int, int, int]
    anchors: TrustAnchors
    held: Held


@dataclass(frozen=True, slots=True)
class CollateralSource:
    """A cache and, where ``kds`` is set, the service behind it. Serves any number of threads and processes."""

    cache: Cache
    kds: KdsSettings | None
    clock: Clock = field(default_factory=Clock)
    chains: ChainCache = field(default_factory=ChainCache, compare=False, repr=False)
    _known: OrderedDict[str, _Known] = field(default_factory=OrderedDict, init=False, compare=False, repr=False)
    _guard: threading.Lock = field(default_factory=threading.Lock, init=False, compare=False, repr=False)

    def get(
        self, wanted: Wanted, anchors: TrustAnchors, now: datetime, budget: Budget, *, refresh: bool = False
    ) -> Held | None:
        """The item; ``None`` when it is not cached and nobody may be asked.

        ``refresh`` asks even for what is fresh. Raises :class:`CollateralUnavailable` when there is none, fresh or old.
        """
        held = self.cached(wanted, anchors, now)
        if self.kds is None or (held is not None and not refresh and _fresh(held, now)):
            return held
        try:
            return self._fetch_alone(self.kds, wanted, anchors, now, (budget, refresh))
        except CollateralUnavailable as exc:
            if held is None:
                raise
            return Held(held.item, held.fetched, exc)

    def cached(self, wanted: Wanted, anchors: TrustAnchors, now: datetime) -> Held | None:
        """What the cache holds, verified (again when its file or the anchors changed); nothing is asked."""
        stamp = self.cache.stamp(wanted)
        if stamp is None:
            return None
        known = self._known.get(wanted.name)
        if known is not None and known.stamp == stamp and known.anchors == anchors:
            return known.held
        entry = self.cache.read(wanted)
        if entry is None or entry.fetched > now + timedelta(days=1):
            return None
        try:
            item = check_parts(wanted, entry.ders, anchors, self._authorities(wanted, anchors, now))
        except CollateralRefused:
            return None
        held = Held(item, entry.fetched)
        with self._guard:
            self._known[wanted.name] = _Known(stamp, anchors, held)
            if len(self._known) > _REMEMBERED_ITEMS:
                self._known.popitem(last=False)
        return held

    def _authorities(self, wanted: Wanted, anchors: TrustAnchors, now: datetime) -> EndorsementSet:
        """The cached chain a leaf or list is verified with, beside the published one."""
        if wanted.kind is Kind.CHAIN:
            return EndorsementSet()
        held = self.cached(Wanted(Kind.CHAIN, wanted.product, wanted.family), anchors, now)
        return EndorsementSet() if held is None else held.item.endorsements

    def _fetch_alone(
        self, kds: KdsSettings, wanted: Wanted, anchors: TrustAnchors, now: datetime, how: tuple[Budget, bool]
    ) -> Held:
        """Fetch under the item's lock, unless another process has just done so or has just failed."""
        budget, refresh = how
        self.cache.prepare()
        before, held = self.cache.stamp(wanted), self.cached(wanted, anchors, now)
        usable = held is not None and not refresh and not _due(held, now)
        with self.cache.lock(wanted, 0.0 if usable else budget.left):  # nobody waits for a better one
            held = self.cached(wanted, anchors, now)
            if held is not None and _fresh(held, now) and (not refresh or self.cache.stamp(wanted) != before):
                return held
            failure = None if refresh else self.cache.failure(wanted, now)
            if failure is not None:
                raise failure.error(now)
            try:
                return self._fetch(kds, wanted, anchors, now, (budget, held))
            except CollateralPaced:
                raise  # nobody was asked, so nobody failed
            except CollateralUnavailable as exc:
                self.cache.remember_failure(Failure(wanted, exc.code, exc.message, now + _remember(exc)))
                raise

    def _fetch(
        self, kds: KdsSettings, wanted: Wanted, anchors: TrustAnchors, now: datetime, how: tuple[Budget, Held | None]
    ) -> Held:
        from attest.collateral.kds import KdsClient  # loads requests, which most runs of this program do without

        budget, last_good = how
        body = KdsClient(kds, self.cache.folder, self.clock).fetch(wanted, budget)
        try:
            item = check_answer(wanted, body, anchors, self._authorities(wanted, anchors, now))
        except CollateralRefused:
            if wanted.kind is not Kind.VCEK or not self._renew_chain(wanted, anchors, now, budget):
                raise
            item = check_answer(wanted, body, anchors, self._authorities(wanted, anchors, now))
        refuse_older(item, last_good)
        self.cache.write(Entry(wanted, item.ders, now, kds.url + wanted.path))
        return Held(item, now)

    def _renew_chain(self, leaf: Wanted, anchors: TrustAnchors, now: datetime, budget: Budget) -> bool:
        """Ask for the chain above a leaf, because AMD may have replaced its intermediate; whether it is another one."""
        chain = Wanted(Kind.CHAIN, leaf.product, leaf.family)
        before = self.cache.stamp(chain)
        with suppress(CollateralUnavailable):
            self.get(chain, anchors, now, budget)
        return self.cache.stamp(chain) != before


def refuse_older(item: Item, last_good: Held | None) -> None:
    """A list that was issued before the one we have is a replay, or a mirror that lags: it revokes less."""
    if item.crl is None or last_good is None or last_good.item.crl is None:
        return
    ours = last_good.item.crl.this_update
    if item.crl.this_update < ours:
        raise CollateralRefused(
            f"{item.wanted}: the answer was issued {item.crl.this_update:%Y-%m-%d}, the list we have {ours:%Y-%m-%d}"
        )


def _fresh(held: Held, now: datetime) -> bool:
    refresh = _REFRESH.get(held.item.wanted.kind)
    if refresh is None:
        return True
    return now - held.fetched < (_REFRESH_STALE if _due(held, now) else refresh)


def _due(held: Held, now: datetime) -> bool:
    """Whether a list is past its next update."""
    crl = held.item.crl
    return crl is not None and (crl.next_update is None or crl.next_update < now)


def _remember(exc: CollateralUnavailable) -> timedelta:
    for kind, length in _REMEMBER:
        if isinstance(exc, kind):
            return length
    if exc.retry_after is None:
        return _REMEMBER_OUTAGE
    return min(timedelta(seconds=max(exc.retry_after, 1.0)), MAX_FAILURE)
