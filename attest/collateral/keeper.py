"""The rules of keeping, for any vendor's collateral: one fetch at a time for each thing, and the last good one stays.

What was asked for again in vain stays in use; that it is too old is the verifier's to say. An older thing never
replaces a newer one. A failure is remembered for a short time, so that an outage costs one wait and not one for each
guest. What a vendor's things are, how they are asked for and verified, and when they are due is a subclass's part.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from attest.collateral.cache import MAX_FAILURE, Cache, Entry, Failure, Named
from attest.collateral.clock import Budget, Clock
from attest.collateral.errors import CollateralNotFound, CollateralPaced, CollateralRefused, CollateralUnavailable
from policy.errors import MalformedInput

_REFRESH_STALE = timedelta(minutes=5)  # where the vendor itself answers with something that is past its next update
_REMEMBER = ((CollateralNotFound, timedelta(minutes=10)), (CollateralRefused, timedelta(minutes=5)))
_REMEMBER_OUTAGE = timedelta(seconds=30)
_REMEMBERED_ITEMS = 4096

W = TypeVar("W", bound=Named)
A = TypeVar("A")
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Held(Generic[Item]):
    """A verified item, when it was fetched or confirmed, and why it is older than wanted, if it is."""

    item: Item
    fetched: datetime
    problem: CollateralUnavailable | None = None


@dataclass(frozen=True, slots=True)
class _Known(Generic[A, Item]):
    stamp: tuple[int, int, int]
    anchors: A
    held: Held[Item]


class Keeper(Generic[W, A, Item]):
    """A cache of ``Item`` wanted as ``W``, verified under anchors ``A``. Serves any number of threads and processes.

    Subclasses say what the methods that raise NotImplementedError here promise.
    """

    renewed_by_timer = False
    """Whether :mod:`attest.collateral.renewal` keeps things current: then others ask only for what has ended."""

    def __init__(self, cache: Cache, clock: Clock) -> None:
        self.cache, self.clock = cache, clock
        self._known: OrderedDict[str, _Known[A, Item]] = OrderedDict()
        self._guard = threading.Lock()

    @property
    def asks(self) -> bool:
        """Whether there is a service to ask."""
        raise NotImplementedError

    def wanted(self, name: str) -> W:
        """The thing of a name in the cache. Raises MalformedInput for names of others' things."""
        raise NotImplementedError

    def check_kept(self, wanted: W, parts: tuple[bytes, ...], anchors: A, now: datetime) -> Item:
        """Verify what a cache or a bundle holds. Raises CollateralRefused."""
        raise NotImplementedError

    def ask(self, wanted: W, anchors: A, now: datetime, how: tuple[Budget, Held[Item] | None]) -> tuple[Item, str]:
        """Ask the service and verify its answer, which replaces the one in ``how``; also says where it came from.

        Raises CollateralUnavailable.
        """
        raise NotImplementedError

    def parts(self, item: Item) -> tuple[bytes, ...]:
        """What is kept of an item."""
        raise NotImplementedError

    def stored(self, item: Item) -> None:
        """Called once an item is in the cache; for vendors whose numbers must never go back. Raises CacheUnusable."""

    def refresh_after(self, wanted: W) -> timedelta | None:
        """How long a thing is not asked for again; ``None`` is for ever."""
        raise NotImplementedError

    def ends(self, item: Item) -> datetime | None:
        """The last moment the item itself speaks of, where it is renewed before."""
        raise NotImplementedError

    def due(self, item: Item, now: datetime) -> bool:
        """Whether the item itself says that there should be a newer one."""
        raise NotImplementedError

    def things(self, kind: str = "items") -> Iterator[W]:
        """Everything of ours in the cache, whole or not, or every failure (``kind``). Raises CacheUnusable."""
        for name in self.cache.names(kind):
            with suppress(MalformedInput):
                yield self.wanted(name)

    def get(self, wanted: W, anchors: A, now: datetime, budget: Budget, *, refresh: bool = False) -> Held[Item] | None:
        """The item; ``None`` when it is not cached and nobody may be asked.

        ``refresh`` asks even for what is fresh. Raises :class:`CollateralUnavailable` when there is none, fresh or old.
        """
        held = self.cached(wanted, anchors, now)
        if not self.asks or (held is not None and not refresh and self._fresh(wanted, held, now)):
            return held
        try:
            return self._fetch_alone(wanted, anchors, now, (budget, refresh))
        except CollateralUnavailable as exc:
            if held is None:
                raise
            return Held(held.item, held.fetched, exc)

    def cached(self, wanted: W, anchors: A, now: datetime) -> Held[Item] | None:
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
            item = self.check_kept(wanted, entry.parts, anchors, now)
        except CollateralRefused:
            return None
        held = Held(item, entry.fetched)
        with self._guard:
            self._known[wanted.name] = _Known(stamp, anchors, held)
            if len(self._known) > _REMEMBERED_ITEMS:
                self._known.popitem(last=False)
        return held

    def _fetch_alone(self, wanted: W, anchors: A, now: datetime, how: tuple[Budget, bool]) -> Held[Item]:
        """Fetch under the item's lock, unless another process has just done so or has just failed."""
        budget, refresh = how
        self.cache.prepare()
        before, held = self.cache.stamp(wanted), self.cached(wanted, anchors, now)
        usable = held is not None and not refresh and not self.due(held.item, now)
        with self.cache.lock(wanted, 0.0 if usable else budget.left):  # nobody waits for a better one
            held = self.cached(wanted, anchors, now)
            fresh = held is not None and self._fresh(wanted, held, now)
            if held is not None and fresh and (not refresh or self.cache.stamp(wanted) != before):
                return held
            failure = None if refresh else self.cache.failure(wanted, now)
            if failure is not None:
                raise failure.error(now)
            try:
                item, source = self.ask(wanted, anchors, now, (budget, held))
            except CollateralPaced:
                raise  # nobody was asked, so nobody failed
            except CollateralUnavailable as exc:
                self.cache.remember_failure(Failure(wanted, exc.code, exc.message, now + _remember(exc)))
                raise
            self.cache.write(Entry(wanted, self.parts(item), now, source))
            self.stored(item)
            return Held(item, now)

    def _fresh(self, wanted: W, held: Held[Item], now: datetime) -> bool:
        refresh = self.refresh_after(wanted)
        due = self.due(held.item, now)
        if refresh is None or (self.renewed_by_timer and not due):
            return True
        return now - held.fetched < (_REFRESH_STALE if due else refresh)


def _remember(exc: CollateralUnavailable) -> timedelta:
    for kind, length in _REMEMBER:
        if isinstance(exc, kind):
            return length
    if exc.retry_after is None:
        return _REMEMBER_OUTAGE
    return min(timedelta(seconds=max(exc.retry_after, 1.0)), MAX_FAILURE)
