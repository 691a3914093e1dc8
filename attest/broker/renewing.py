"""What of a service's cache a timer keeps current: of makers that may be asked under the policy in force."""

from __future__ import annotations

from datetime import UTC, datetime

from attest.broker.appraise import anchors_of
from attest.broker.collateral import ServiceCollateral
from attest.broker.present_tdx import intel_anchors_of
from attest.collateral.intel_source import PcsSource
from attest.collateral.renewal import AnyWatched, Watched
from attest.endorsement.intel import IntelAnchors
from attest.evidence.intel_certificate import IntelRole
from policy.claims import INTEL_ROOT
from policy.document import PolicyDocument


def watched(collateral: ServiceCollateral, document: PolicyDocument) -> tuple[AnyWatched, ...]:
    """Raises CollateralUnreadable, and CacheUnusable."""
    found: list[AnyWatched] = []
    if collateral.source is not None and collateral.may_ask(document):
        found.append(Watched("amd", collateral.source, anchors_of(document, collateral.folder.current())))
    intel = collateral.intel
    if intel.source is not None and intel.may_ask(document):
        found.append(Watched("intel", intel.source, with_cached_roots(intel.source, intel_anchors_of(document))))
    return tuple(found)


def with_cached_roots(source: PcsSource, anchors: IntelAnchors) -> IntelAnchors:
    """A policy names test roots by digest only; with their certificates, which cached things bring, lists of them
    verify too.
    """
    now = datetime.fromtimestamp(source.clock.wall(), UTC)
    held = (source.cached(wanted, anchors, now) for wanted in source.things())
    found = (root for item in held if item is not None for root in item.item.collateral.by_role(IntelRole.ROOT))
    roots = {root.sha256: root for root in found if anchors.name_of(root) not in (None, INTEL_ROOT)}
    return IntelAnchors(anchors.keys, tuple(roots.values()))
