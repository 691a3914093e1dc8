"""Intel's half of ``attest collateral``, and what ``attest evidence verify --online`` fetches for quotes."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from attest.cli.collateral_cache import pcs_source_of
from attest.collateral.clock import Budget
from attest.collateral.errors import CollateralUnavailable
from attest.collateral.intel_source import PcsSource
from attest.collateral.intel_status import IntelItemStatus, intel_item_status
from attest.collateral.intel_supply import fetch_for_quote, wanted_of_quote, with_root_of_quote
from attest.collateral.intel_wanted import IntelKind, IntelWanted, PckCa, Tee, wanted_of_platform
from attest.endorsement.intel import IntelAnchors
from attest.endorsement.intel_pool import IntelCollateral
from attest.evidence.quote import Quote
from policy.errors import ConfigInvalid

FETCHED, CACHED, FAILED = "fetched", "cached", "failed"
_WAIT_SECONDS = 60.0


def fetch_intel(
    args: Namespace, quote: Quote | None, anchors: IntelAnchors, now: datetime
) -> tuple[str, list[dict[str, Any]], CollateralUnavailable | None]:
    """Fetch everything for a quote or a platform: the cache's folder, what became of each thing, the first failure."""
    source = pcs_source_of(args, online=True)
    plan = _plan(args, quote, anchors, source)
    if quote is not None:
        anchors = with_root_of_quote(quote, anchors)
    budget, results = Budget(source.clock, args.wait), list[dict[str, Any]]()
    failure: CollateralUnavailable | None = None
    for wanted in plan:
        try:
            held = source.get(wanted, anchors, now, budget, refresh=args.refresh)
            problem = None if held is None else held.problem
        except CollateralUnavailable as exc:
            problem = exc
        failure = failure or problem
        known = intel_item_status(source, wanted, anchors, now)
        outcome = FETCHED if known.fetched == now else CACHED
        results.append(
            {
                **intel_item_json(known, now),
                "outcome": outcome if problem is None else FAILED,
                "code": None if problem is None else problem.code,
                "message": None if problem is None else problem.message,
            }
        )
    return str(source.cache.folder), results, failure


def _plan(args: Namespace, quote: Quote | None, anchors: IntelAnchors, source: PcsSource) -> tuple[IntelWanted, ...]:
    if quote is not None:
        if args.fmspc is not None or args.ca is not None or args.tee is not None:
            raise ConfigInvalid("fetch", ("want either a quote or --fmspc, --ca and --tee, not both",))
        plan = wanted_of_quote(quote, source, anchors)
        if not plan:
            raise ConfigInvalid(
                "fetch", ("the quote's certificates do not lead to a trusted root: attest evidence verify says why",)
            )
        return plan
    if args.ca is None:
        raise ConfigInvalid("fetch", ("--fmspc wants --ca platform or --ca processor beside it",))
    return wanted_of_platform(Tee(args.tee or "tdx"), args.fmspc, PckCa(args.ca), source.channel)


def fetch_for_quotes(
    args: Namespace, anchors: IntelAnchors, today: datetime, warn: Callable[[str], None]
) -> Callable[[Quote, IntelCollateral], IntelCollateral]:
    """For ``attest evidence verify --online``. The same things give the same object: the verifier remembers by it.

    What it returns raises the reason where no TCB info is at hand for a quote at all; other reasons go to ``warn``.
    """
    source = pcs_source_of(args, online=True)
    joined: dict[tuple[tuple[bytes, ...], ...], IntelCollateral] = {}

    def fetch(quote: Quote, have: IntelCollateral) -> IntelCollateral:
        supplied = fetch_for_quote(quote, source, anchors, today, Budget(source.clock, _WAIT_SECONDS), have)
        key = tuple(item.parts for item in supplied.items)
        pool = joined.get(key)
        if pool is None:
            pool = joined[key] = have + supplied.collateral
        if supplied.problems and not pool.tcb_infos:
            raise supplied.problems[0]
        for problem in supplied.problems:
            warn(problem.message)
        return pool

    return fetch


def intel_item_json(item: IntelItemStatus, now: datetime) -> dict[str, Any]:
    """``name``, ``kind``, ``state``, ``fetched``, ``age_seconds``, ``expires`` and ``sha256`` AMD's things have too."""
    wanted = item.wanted
    document = not wanted.is_list
    return {
        "name": wanted.name,
        "kind": wanted.kind.value,
        "tee": wanted.tee.value if document else None,
        "fmspc": wanted.fmspc.hex() if wanted.kind is IntelKind.TCB_INFO else None,
        "ca": wanted.ca.value if wanted.kind is IntelKind.PCK_CRL else None,
        "channel": wanted.channel.name if document else None,
        "number": item.number,
        "root": item.root,
        "state": item.state,
        "issued": _time(item.issued),
        "fetched": _time(item.fetched),
        "age_seconds": None if item.fetched is None else max(0, int((now - item.fetched).total_seconds())),
        "expires": _time(item.expires),
        "warning_days": item.warning_days,
        "sha256": list(item.sha256),
    }


def warnings_of(items: Iterable[IntelItemStatus]) -> list[str]:
    """One line for everything that ends soon."""
    return [
        f"{item.wanted}: ends {_time(item.expires)}, in less than {item.warning_days} d"
        for item in items
        if item.warning_days is not None
    ]


def _time(value: datetime | None) -> str | None:
    return None if value is None else value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
