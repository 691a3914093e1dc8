"""Intel's collateral from the cache, or from Intel or a cache of its service when it is not there or a day old.

    TCB info, QE identity, PCK CRL    issued anew every day, current for thirty: asked for again after a day
    root CRL                          current for a year: asked for again after a day too, since it can come early

So a service that reaches nobody for weeks still verifies. What has ended stays where there is nothing newer; the
verifier refuses documents that ended and reports lists as stale. Nothing goes back: see :mod:`attest.collateral.seen`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TypeAlias

from attest.collateral import keeper
from attest.collateral.cache import Cache
from attest.collateral.clock import Budget, Clock
from attest.collateral.errors import CollateralNotFound, CollateralPaced, CollateralRefused, CollateralUnavailable
from attest.collateral.intel_check import IntelItem, check_current, check_intel_answer, check_intel_parts
from attest.collateral.intel_wanted import STANDARD, Channel, IntelWanted, intel_wanted_from_name
from attest.collateral.pcs_settings import PcsSettings
from attest.collateral.seen import Mark, Seen
from attest.endorsement.intel import IntelAnchors, IntelCache

_REFRESH = timedelta(days=1)

IntelHeld: TypeAlias = keeper.Held[IntelItem]


class PcsSource(keeper.Keeper[IntelWanted, IntelAnchors, IntelItem]):
    """A cache and, where ``pcs`` is set, the services behind it. Serves any number of threads and processes."""

    def __init__(
        self, cache: Cache, pcs: PcsSettings | None, clock: Clock | None = None, channel: Channel = STANDARD
    ) -> None:
        """``channel`` counts where ``pcs`` is ``None``: which documents of the cache are meant."""
        super().__init__(cache, clock or Clock())
        self.pcs = pcs
        self.channel = channel if pcs is None else pcs.channel
        self.chains = IntelCache()
        self._seen = Seen(cache.folder)

    @property
    def asks(self) -> bool:
        """Whether there is a service to ask."""
        return self.pcs is not None

    def wanted(self, name: str) -> IntelWanted:
        """Raises NotAskable."""
        return intel_wanted_from_name(name)

    def check_kept(
        self, wanted: IntelWanted, parts: tuple[bytes, ...], anchors: IntelAnchors, now: datetime
    ) -> IntelItem:
        """What is older than something seen before counts as absent: a file that was put back is no evidence."""
        item = check_intel_parts(wanted, parts, anchors)
        self.refuse_older(item)
        return item

    def parts(self, item: IntelItem) -> tuple[bytes, ...]:
        """DER values; a document as it was served comes first."""
        return item.parts

    def stored(self, item: IntelItem) -> None:
        """Nothing older is taken from now on."""
        self._seen.remember(item.wanted.name, item.root, Mark(item.number, item.issued))

    def refuse_older(self, item: IntelItem) -> None:
        """Raises CollateralRefused for what was issued before something that was kept once, or has a lower number."""
        mark, highest = Mark(item.number, item.issued), self._seen.highest(item.wanted.name, item.root)
        if highest is not None and mark.older_than(highest):
            raise CollateralRefused(
                f"{item.wanted}: got {mark}, older than {highest}, which was seen before",
                hint="a cache that lags, or a rollback; delete "
                f"{self._seen.path(item.wanted.name, item.root)} where Intel really went back",
            )

    def refresh_after(self, wanted: IntelWanted) -> timedelta | None:
        """See above."""
        return _REFRESH

    def ends(self, item: IntelItem) -> datetime | None:
        """Its next update, or its signer's end."""
        return item.expires

    def due(self, item: IntelItem, now: datetime) -> bool:
        """Whether it has ended."""
        return item.expires <= now

    def ask(
        self, wanted: IntelWanted, anchors: IntelAnchors, now: datetime, how: tuple[Budget, IntelHeld | None]
    ) -> tuple[IntelItem, str]:
        """The first service whose answer verifies, is current and not older than what was seen."""
        from attest.collateral.pcs import PcsClient  # loads requests, which most runs of this program do without

        if self.pcs is None:
            raise CollateralUnavailable(f"{wanted}: no service is configured")
        budget, client = how[0], PcsClient(self.pcs, self.cache.folder, self.clock)
        places, problems = list(client.places(wanted)), list[CollateralUnavailable]()
        for number, url in enumerate(places):
            share = Budget(self.clock, budget.left / (len(places) - number))
            try:
                answer = client.fetch(wanted, url, share)
                item = check_intel_answer(wanted, answer.body, answer.chain, anchors)
                check_current(item, now)
                self.refuse_older(item)
            except CollateralUnavailable as exc:
                problems.append(exc)
                continue
            return item, url
        if not problems:
            raise CollateralUnavailable(f"{wanted}: no service that has it is configured")
        raise min(problems, key=_order)


def _order(problem: CollateralUnavailable) -> int:
    """What to say of several: what may be gone in a moment before what is final for one of the services only."""
    if isinstance(problem, CollateralPaced):
        return 0
    return 2 if isinstance(problem, CollateralNotFound) else 1
