"""What a quote is verified with: the operator's folder, the cache, and Intel's service or a cache of it where allowed.

Intel is asked under the same conditions as AMD, see :mod:`attest.broker.collateral`, and only about platforms whose own
certificate chain holds.
"""

from __future__ import annotations

import hmac
import logging
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from attest.collateral.clock import Budget, Clock
from attest.collateral.intel_folder import IntelFolder
from attest.collateral.intel_source import PcsSource
from attest.collateral.intel_supply import IntelSupplied, fetch_for_quote
from attest.collateral.url import PCS_URL
from attest.endorsement.intel import IntelAnchors
from attest.endorsement.intel_pool import IntelCollateral
from attest.evidence.quote import Quote
from policy.claims import INTEL_ROOT
from policy.document import PolicyDocument

WAIT_SECONDS = 12.0
"""For everything one request fetches; well below what a worker may take and a guest waits."""

_WANTS_LIST = "good"
_POOLS = 256
_log = logging.getLogger("attest.collateral")


class IntelAtHand(NamedTuple):
    """Everything a quote may be verified with. ``problems`` say why something that was asked for is not among it."""

    collateral: IntelCollateral
    problems: tuple[str, ...] = ()
    lists_too_old: bool = False


class _Joined(NamedTuple):
    """A pool of its own for what was supplied, and the folder's pool it was joined with."""

    own: IntelCollateral
    pool: IntelCollateral


@dataclass(frozen=True, slots=True)
class IntelCollateralService:
    """The folder, and a source behind it where a cache is configured."""

    folder: IntelFolder = field(default_factory=lambda: IntelFolder(None))
    source: PcsSource | None = None
    max_crl_age: timedelta | None = None
    clock: Clock = field(default_factory=Clock)
    _cache_only: PcsSource | None = field(init=False, repr=False)
    _pools: OrderedDict[tuple[int, tuple[tuple[bytes, ...], ...]], _Joined] = field(
        init=False, default_factory=OrderedDict, repr=False
    )

    def __post_init__(self) -> None:
        source = self.source
        cache_only = None if source is None else PcsSource(source.cache, None, self.clock, source.channel)
        object.__setattr__(self, "_cache_only", cache_only)

    def offline(self) -> IntelCollateralService:
        """The same folder and cache; nobody is asked."""
        return replace(self, source=self._cache_only)

    def for_quote(
        self, quote: Quote, anchors: IntelAnchors, document: PolicyDocument, report_data: bytes, now: datetime
    ) -> IntelAtHand:
        """Raises CollateralUnreadable when the operator's folder cannot be read; what Intel does not give is a
        problem, not an error.
        """
        own = self.folder.current()
        supplied = IntelSupplied()
        source = self.source if self.may_ask(document) else self._cache_only
        if source is not None and hmac.compare_digest(quote.body.report_data, report_data):
            supplied = fetch_for_quote(quote, source, anchors, now, Budget(self.clock, WAIT_SECONDS), own)
        for problem in supplied.problems:
            _log.warning("collateral: %s", problem.message)
        problems = tuple(problem.message[:300] for problem in supplied.problems)
        wants_list = document.tdx is not None and document.tdx.tcb.revocation == _WANTS_LIST
        ours = any(now <= crl.next_update for crl in own.crls)
        too_old = wants_list and not ours and self._too_old(supplied, now)
        return IntelAtHand(self._joined(own, supplied), problems, too_old)

    def may_ask(self, document: PolicyDocument) -> bool:
        """Whether Intel, or who stands in for it, is asked under this policy."""
        pcs = None if self.source is None else self.source.pcs
        return pcs is not None and (INTEL_ROOT in document.roots or pcs.urls != (PCS_URL,))

    def _too_old(self, supplied: IntelSupplied, now: datetime) -> bool:
        """Lists in the operator's folder are as old as the operator lets them be, until they end."""
        if self.max_crl_age is None:
            return False
        return supplied.lists_confirmed is None or now - supplied.lists_confirmed > self.max_crl_age

    def _joined(self, own: IntelCollateral, supplied: IntelSupplied) -> IntelCollateral:
        """One object for the same things, because verifiers remember what they judged by it."""
        if not supplied.items:
            return own
        key = (id(own), tuple(item.parts for item in supplied.items))
        known = self._pools.get(key)
        if known is None or known.own is not own:
            known = self._pools[key] = _Joined(own, own + supplied.collateral)
            if len(self._pools) > _POOLS:
                self._pools.popitem(last=False)
        return known.pool
