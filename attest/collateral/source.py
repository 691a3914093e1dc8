"""AMD's collateral from the cache, or from AMD when it is not there or too old.

    VCEK     kept for ever: the key of (product, hwID, TCB) never changes
    chain    asked for again after 30 days
    CRL      asked for again after a day, or when its next update is due

A list that is past its next update stays in use where there is no newer one; the verifier reports it as stale.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from typing import TypeAlias

from attest.collateral import keeper
from attest.collateral.cache import Cache
from attest.collateral.check import Item, check_answer, check_parts
from attest.collateral.clock import Budget, Clock
from attest.collateral.errors import CollateralRefused, CollateralUnavailable
from attest.collateral.kds_settings import KdsSettings
from attest.collateral.wanted import Kind, Wanted, wanted_from_name
from attest.endorsement.amd_cache import ChainCache
from attest.endorsement.anchors import TrustAnchors
from attest.endorsement.pool import EndorsementSet

_REFRESH = {Kind.CHAIN: timedelta(days=30), Kind.CRL: timedelta(days=1)}

Held: TypeAlias = keeper.Held[Item]


class CollateralSource(keeper.Keeper[Wanted, TrustAnchors, Item]):
    """A cache and, where ``kds`` is set, the service behind it. Serves any number of threads and processes."""

    def __init__(self, cache: Cache, kds: KdsSettings | None, clock: Clock | None = None) -> None:
        super().__init__(cache, clock or Clock())
        self.kds = kds
        self.chains = ChainCache()

    @property
    def asks(self) -> bool:
        """Whether there is a service to ask."""
        return self.kds is not None

    def wanted(self, name: str) -> Wanted:
        """Raises NotAskable."""
        return wanted_from_name(name)

    def check_kept(self, wanted: Wanted, parts: tuple[bytes, ...], anchors: TrustAnchors, now: datetime) -> Item:
        """Leaves and lists are verified with the cached chain, beside the published one."""
        return check_parts(wanted, parts, anchors, self._authorities(wanted, anchors, now))

    def parts(self, item: Item) -> tuple[bytes, ...]:
        """DER values."""
        return item.ders

    def refresh_after(self, wanted: Wanted) -> timedelta | None:
        """See above."""
        return _REFRESH.get(wanted.kind)

    def ends(self, item: Item) -> datetime | None:
        """A list's next update."""
        return None if item.crl is None else item.crl.next_update

    def due(self, item: Item, now: datetime) -> bool:
        """Whether a list is past its next update."""
        crl = item.crl
        return crl is not None and (crl.next_update is None or crl.next_update < now)

    def ask(
        self, wanted: Wanted, anchors: TrustAnchors, now: datetime, how: tuple[Budget, Held | None]
    ) -> tuple[Item, str]:
        """A leaf that does not verify is tried again when AMD has another chain than the one we have."""
        from attest.collateral.kds import KdsClient  # loads requests, which most runs of this program do without

        if self.kds is None:
            raise CollateralUnavailable(f"{wanted}: no service is configured")
        budget, last_good = how
        body = KdsClient(self.kds, self.cache.folder, self.clock).fetch(wanted, budget)
        try:
            item = check_answer(wanted, body, anchors, self._authorities(wanted, anchors, now))
        except CollateralRefused:
            if wanted.kind is not Kind.VCEK or not self._renew_chain(wanted, anchors, now, budget):
                raise
            item = check_answer(wanted, body, anchors, self._authorities(wanted, anchors, now))
        refuse_older(item, last_good)
        return item, self.kds.url + wanted.path

    def _authorities(self, wanted: Wanted, anchors: TrustAnchors, now: datetime) -> EndorsementSet:
        if wanted.kind is Kind.CHAIN:
            return EndorsementSet()
        held = self.cached(Wanted(Kind.CHAIN, wanted.product, wanted.family), anchors, now)
        return EndorsementSet() if held is None else held.item.endorsements

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
