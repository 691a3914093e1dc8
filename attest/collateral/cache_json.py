"""A cache's contents as plain data: what a command line prints and a service answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

from attest.collateral.clock import Budget
from attest.collateral.errors import CollateralUnavailable
from attest.collateral.intel_source import PcsSource
from attest.collateral.intel_status import IntelItemStatus, intel_failures, intel_item_status, intel_status
from attest.collateral.intel_wanted import IntelKind, IntelWanted
from attest.collateral.renewal import RenewalState, renewal_state
from attest.collateral.source import CollateralSource
from attest.collateral.status import ItemStatus, cache_failures, cache_status, item_status
from attest.collateral.wanted import Wanted
from attest.endorsement.anchors import TrustAnchors
from attest.endorsement.intel import IntelAnchors

FETCHED, CACHED, FAILED = "fetched", "cached", "failed"


class Sources(NamedTuple):
    """Both makers' things in one cache, and the roots they are verified under."""

    amd: CollateralSource
    anchors: TrustAnchors
    intel: PcsSource
    intel_anchors: IntelAnchors


class Got(NamedTuple):
    """What became of one thing, and why it is not current."""

    item: dict[str, Any]
    problem: CollateralUnavailable | None


def cache_json(sources: Sources, now: datetime) -> dict[str, Any]:
    """Everything in the cache, what failed lately, and what renews it; nothing is asked. Raises CacheUnusable."""
    failures = (*cache_failures(sources.amd, now), *intel_failures(sources.intel, now))
    return {
        "cache": str(sources.amd.cache.folder),
        "items": items_json(
            cache_status(sources.amd, sources.anchors, now),
            intel_status(sources.intel, sources.intel_anchors, now),
            now,
        ),
        "failures": [
            {"name": item.wanted.name, "code": item.code, "message": item.message, "until": time_text(item.until)}
            for item in failures
        ],
        "renewal": _renewal(renewal_state(sources.amd.cache.folder)),
    }


def get(sources: Sources, wanted: Wanted | IntelWanted, now: datetime, budget: Budget, *, refresh: bool) -> Got:
    """One thing from the cache or its maker. Raises CacheUnusable."""
    try:
        if isinstance(wanted, IntelWanted):
            theirs = sources.intel.get(wanted, sources.intel_anchors, now, budget, refresh=refresh)
            problem = None if theirs is None else theirs.problem
        else:
            held = sources.amd.get(wanted, sources.anchors, now, budget, refresh=refresh)
            problem = None if held is None else held.problem
    except CollateralUnavailable as exc:
        problem = exc
    known, fetched = _item(sources, wanted, now)
    outcome = FETCHED if fetched == now else CACHED
    more = {
        "outcome": outcome if problem is None else FAILED,
        "code": None if problem is None else problem.code,
        "message": None if problem is None else problem.message,
    }
    return Got(known | more, problem)


def _item(sources: Sources, wanted: Wanted | IntelWanted, now: datetime) -> tuple[dict[str, Any], datetime | None]:
    """The thing as it is now, and when it was fetched."""
    if isinstance(wanted, IntelWanted):
        theirs = intel_item_status(sources.intel, wanted, sources.intel_anchors, now)
        return intel_item_json(theirs, now), theirs.fetched
    ours = item_status(sources.amd, wanted, sources.anchors, now)
    return item_json(ours, now), ours.fetched


def items_json(
    items: tuple[ItemStatus, ...], theirs: tuple[IntelItemStatus, ...], now: datetime
) -> list[dict[str, Any]]:
    """Both makers' things."""
    return [item_json(item, now) for item in items] + [intel_item_json(item, now) for item in theirs]


def item_json(item: ItemStatus, now: datetime) -> dict[str, Any]:
    """One of AMD's things; ``title`` is for people."""
    wanted = item.wanted
    return {
        "name": wanted.name,
        "title": str(wanted),
        "kind": wanted.kind.value,
        "family": wanted.family.value,
        "product": wanted.product.value,
        "chip_id": None if wanted.hwid is None else wanted.hwid.hex(),
        "tcb": None if wanted.tcb is None else wanted.tcb.parts(),
        "state": item.state,
        "fetched": time_text(item.fetched),
        "age_seconds": _age(item.fetched, now),
        "expires": time_text(item.expires),
        "sha256": list(item.sha256),
    }


def intel_item_json(item: IntelItemStatus, now: datetime) -> dict[str, Any]:
    """``name``, ``title``, ``kind``, ``state``, ``fetched``, ``age_seconds``, ``expires`` and ``sha256`` AMD's things
    have too.
    """
    wanted = item.wanted
    document = not wanted.is_list
    return {
        "name": wanted.name,
        "title": str(wanted) if item.number is None else f"{wanted}, number {item.number}",
        "kind": wanted.kind.value,
        "tee": wanted.tee.value if document else None,
        "fmspc": wanted.fmspc.hex() if wanted.kind is IntelKind.TCB_INFO else None,
        "ca": wanted.ca.value if wanted.kind is IntelKind.PCK_CRL else None,
        "channel": wanted.channel.name if document else None,
        "number": item.number,
        "root": item.root,
        "state": item.state,
        "issued": time_text(item.issued),
        "fetched": time_text(item.fetched),
        "age_seconds": _age(item.fetched, now),
        "expires": time_text(item.expires),
        "warning_days": item.warning_days,
        "sha256": list(item.sha256),
    }


def time_text(value: datetime | None) -> str | None:
    """RFC 3339 in UTC, to the second."""
    return None if value is None else value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _age(fetched: datetime | None, now: datetime) -> int | None:
    return None if fetched is None else max(0, int((now - fetched).total_seconds()))


def _renewal(state: RenewalState | None) -> dict[str, Any] | None:
    return None if state is None else {"at": time_text(state.at), "failing": list(state.failing)}
