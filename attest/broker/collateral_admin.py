"""What operators do with the cache of a running service: look, have things fetched, bring a bundle.

Whoever asks names things, never addresses: the service asks the makers of its settings, under the roots of its policy,
and verifies as it always does. What was stored is on record with who did it; the inventory of what is in force follows
when the service next looks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from attest.audit.record import COLLATERAL_LOAD, Event
from attest.broker.appraise import anchors_of
from attest.broker.collateral import ServiceCollateral
from attest.broker.errors import RequestMalformed, RequestUnsupported
from attest.broker.operations import By
from attest.broker.present_tdx import intel_anchors_of
from attest.broker.renewing import with_cached_roots
from attest.broker.service import Service
from attest.broker.trail import append
from attest.collateral.bundle import Intel, import_bundle
from attest.collateral.cache_json import Sources, cache_json, get
from attest.collateral.clock import Budget
from attest.collateral.intel_wanted import IntelWanted, intel_wanted_from_name
from attest.collateral.wanted import NotAskable, Wanted, wanted_from_name
from policy.document import PolicyDocument

MAX_NAMES = 16
WAIT_SECONDS = 8.0
"""For all things of one request: others wait for this listener's process."""


def status(service: Service, now: datetime) -> dict[str, Any]:
    """The cache as it is. Raises RequestUnsupported where there is none, CacheUnusable."""
    return cache_json(_sources(service.collateral, service.rules.current().document), now)


def fetch(service: Service, names: Sequence[str], by: By, *, refresh: bool) -> list[dict[str, Any]]:
    """Have these things fetched; what became of each, in order. What fails is said there.

    Raises RequestMalformed for what is no name, RequestUnsupported where nobody may be asked, CacheUnusable.
    """
    document = service.rules.current().document
    sources, plan = _sources(service.collateral, document), _plan(names)
    for wanted in plan:
        _may_ask(service.collateral, document, wanted)
    budget = Budget(service.collateral.clock, WAIT_SECONDS)
    items = [get(sources, wanted, by.now, budget, refresh=refresh).item for wanted in plan]
    _record(service, "fetch", "asked for", items, by, {})
    return items


def load(service: Service, data: bytes, by: By) -> list[dict[str, str]]:
    """Import a bundle, or a file with certificates, documents or lists; what became of each thing.

    Raises BundleMalformed, BundleRefused (nothing is stored then), RequestUnsupported without a cache, CacheUnusable.
    """
    sources = _sources(service.collateral, service.rules.current().document)
    done = import_bundle(sources.amd, data, sources.anchors, by.now, Intel(sources.intel, sources.intel_anchors))
    items = [item.to_json() for item in done]
    _record(service, "import", "imported", items, by, {"file": hashlib.sha256(data).digest()})
    return items


def _record(
    service: Service, subject: str, outcome: str, items: Sequence[dict[str, Any]], by: By, more: dict[str, object]
) -> None:
    named = [{"name": item["name"], "outcome": item["outcome"]} for item in items]
    with service.database.write() as tx:
        append(tx, Event(by.now, COLLATERAL_LOAD, subject, outcome, by.actor, {"items": named, **more}))


def _sources(collateral: ServiceCollateral, document: PolicyDocument) -> Sources:
    amd, intel = collateral.source, collateral.intel.source
    if amd is None or intel is None:
        raise RequestUnsupported("collateral: the service's settings name no cache", hint="[collateral] cache = DIR")
    anchors = anchors_of(document, collateral.folder.current())
    return Sources(amd, anchors, intel, with_cached_roots(intel, intel_anchors_of(document)))


def _plan(names: Sequence[str]) -> list[Wanted | IntelWanted]:
    if not 0 < len(names) <= MAX_NAMES:
        raise RequestMalformed(f"collateral: {len(names)} names, want 1 to {MAX_NAMES}")
    return [_wanted(name) for name in names]


def _wanted(name: str) -> Wanted | IntelWanted:
    for read in (wanted_from_name, intel_wanted_from_name):
        try:
            return read(name)
        except NotAskable:
            continue
    raise RequestMalformed(
        f"collateral {name[:200]!r}: not a name of AMD's or Intel's things (attest collateral status)"
    )


def _may_ask(collateral: ServiceCollateral, document: PolicyDocument, wanted: Wanted | IntelWanted) -> None:
    theirs = isinstance(wanted, IntelWanted)
    if not (collateral.intel.may_ask(document) if theirs else collateral.may_ask(document)):
        maker = "Intel" if theirs else "AMD"
        raise RequestUnsupported(
            f"collateral {wanted.name}: {maker} is not asked: the settings say offline, or the policy does not trust it"
        )
