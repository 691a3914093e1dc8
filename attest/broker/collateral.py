"""What evidence is verified with: what came with it, the operator's folder, the cache, and its maker where allowed.

AMD or Intel is asked only for evidence whose REPORT_DATA answers the challenge (anything else fails anyway), only under
a policy that trusts its roots (or where another service than its own is configured), and only for a few seconds: a
guest asks again, a worker that waits serves nobody. What could not be had is named in the audit record.
"""

from __future__ import annotations

import hmac
import logging
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from attest.broker.appraise import anchors_of
from attest.broker.collateral_intel import WAIT_SECONDS, IntelCollateralService
from attest.collateral.cache import Cache
from attest.collateral.clock import Budget, Clock
from attest.collateral.folder import CollateralFolder
from attest.collateral.intel_folder import IntelFolder
from attest.collateral.intel_source import PcsSource
from attest.collateral.kds_settings import KdsSettings
from attest.collateral.source import CollateralSource
from attest.collateral.supply import Supplied, Supplier
from attest.collateral.url import KDS_URL
from attest.endorsement.pool import EndorsementSet
from attest.evidence.snp_report import SnpReport
from attest.settings_collateral import CollateralSettings
from policy.claims import AMD_ROOT
from policy.document import PolicyDocument

TURN_SECONDS = 4.0
"""For our turn to ask for a VCEK: beyond that the guest is to come again, and the worker serves others."""

_WANTS_LIST = "good"
_log = logging.getLogger("attest.collateral")


@dataclass(frozen=True, slots=True)
class AtHand:
    """Everything a report may be verified with. ``problems`` say why something that was asked for is not among it."""

    endorsements: EndorsementSet
    problems: tuple[str, ...] = ()
    crl_too_old: bool = False


@dataclass(frozen=True, slots=True)
class ServiceCollateral:
    """The folder, and a source behind it where a cache is configured.

    ``intel`` is the same for Intel's. ``renewed`` is the cache's folder where a timer keeps it current.
    """

    folder: CollateralFolder = field(default_factory=lambda: CollateralFolder(None))
    source: CollateralSource | None = None
    max_crl_age: timedelta | None = None
    clock: Clock = field(default_factory=Clock)
    intel: IntelCollateralService = field(default_factory=IntelCollateralService)
    renewed: Path | None = None
    _cache_only: CollateralSource | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        cache_only = None if self.source is None else CollateralSource(self.source.cache, None, self.clock)
        object.__setattr__(self, "_cache_only", cache_only)

    @classmethod
    def of(cls, settings: CollateralSettings) -> ServiceCollateral:
        """As ``attest.toml`` says."""
        clock = Clock()
        kds = KdsSettings(url=settings.kds_url, turn_wait=TURN_SECONDS) if settings.online else None
        source = None if settings.cache is None else CollateralSource(Cache(settings.cache, clock), kds, clock)
        pcs = None
        if settings.cache is not None:
            asked = replace(settings.pcs, turn_wait=TURN_SECONDS) if settings.online else None
            pcs = PcsSource(Cache(settings.cache, clock), asked, clock, settings.pcs.channel)
        for keeper in (source, pcs):
            if keeper is not None:
                keeper.renewed_by_timer = settings.renew
        intel = IntelCollateralService(IntelFolder(settings.folder), pcs, settings.max_crl_age, clock)
        renewed = settings.cache if settings.renew else None
        return cls(CollateralFolder(settings.folder), source, settings.max_crl_age, clock, intel, renewed)

    def offline(self) -> ServiceCollateral:
        """The same folder and caches; nobody is asked."""
        return replace(self, source=self._cache_only, intel=self.intel.offline())

    def endorsements(
        self, report: SnpReport, sent: EndorsementSet, document: PolicyDocument, report_data: bytes, now: datetime
    ) -> AtHand:
        """Raises CollateralUnreadable when the operator's folder cannot be read; what AMD does not give is a problem,
        not an error.
        """
        own = self.folder.current()
        have = sent + own
        supplied = Supplied()
        source = self.source if self.may_ask(document) else self._cache_only
        if source is not None and hmac.compare_digest(report.report_data, report_data):
            supplier = Supplier(source, anchors_of(document, have), now, Budget(self.clock, WAIT_SECONDS))
            supplied = supplier.supply(report, have)
        for problem in supplied.problems:
            _log.warning("collateral: %s", problem.message)
        pool = have + supplied.endorsements
        wants_list = document.snp is not None and document.snp.revocation == _WANTS_LIST
        too_old = wants_list and self._too_old(report, own, pool, supplied, now)
        return AtHand(pool, tuple(problem.message[:300] for problem in supplied.problems), too_old)

    def may_ask(self, document: PolicyDocument) -> bool:
        """Whether AMD, or who stands in for it, is asked under this policy."""
        kds = self.source.kds if self.source is not None else None
        return kds is not None and (AMD_ROOT in document.roots or kds.url != KDS_URL)

    def _too_old(
        self, report: SnpReport, own: EndorsementSet, pool: EndorsementSet, supplied: Supplied, now: datetime
    ) -> bool:
        """Lists in the operator's folder are as old as the operator lets them be, until they end; the guest's own never
        count.
        """
        if self.max_crl_age is None:
            return False
        products = {leaf.product for leaf in pool.fitting(report, None)}
        if any(crl.product in products and crl.next_update is not None and now <= crl.next_update for crl in own.crls):
            return False
        return supplied.crl_confirmed is None or now - supplied.crl_confirmed > self.max_crl_age
