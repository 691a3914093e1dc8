"""What ``attest collateral`` does."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from attest.cli.collateral_cache import anchors_with, pcs_source_of, source_of
from attest.cli.collateral_plan import amd_plans, intel_plan, is_intels
from attest.cli.collateral_there import fetch_there, load_there, status_there
from attest.cli.common import print_json, print_table, print_text, progress
from attest.cli.evidence_file import read_file
from attest.cli.evidence_quote import split_roots
from attest.cli.failure import exit_code, failure_text
from attest.collateral.bundle import Intel, export_bundle, import_bundle
from attest.collateral.cache_json import Sources, cache_json, get, items_json
from attest.collateral.clock import Budget
from attest.collateral.errors import CollateralNotFound, CollateralUnavailable
from attest.collateral.intel_status import intel_status
from attest.collateral.intel_supply import with_root_of_quote
from attest.collateral.intel_wanted import IntelWanted
from attest.collateral.renewal import STOPPED_AFTER
from attest.collateral.status import cache_status
from attest.collateral.wanted import Wanted
from attest.evidence.bundle import MAX_BUNDLE
from attest.evidence.quote import Quote
from attest.evidence.recognise import Evidence, QuoteEvidence, parse_evidence
from attest.keys.files import replace_file
from policy.errors import ConfigInvalid

Plan = tuple[Wanted | IntelWanted, ...]


class Fetched(NamedTuple):
    """The cache's folder (nothing where a service was asked), what became of each thing, and the failure."""

    cache: str | None
    items: list[dict[str, Any]]
    failure: CollateralUnavailable | None

    @property
    def exit_code(self) -> int:
        """0, or that of the failure."""
        return 0 if self.failure is None else exit_code(self.failure)


def fetch(args: Namespace) -> int:
    """Fetch what the options mean and say so; 0, or the exit code of the last failure."""
    done = fetched(args)
    if args.json:
        print_json({"schema": "attest.collateral.fetch/1", "cache": done.cache, "items": done.items})
    else:
        print_fetched(done)
    return done.exit_code


def print_fetched(done: Fetched) -> None:
    """A table, and the failure on standard error."""
    print_table([(item["outcome"], item["name"], item["expires"] or item["message"] or "") for item in done.items])
    if done.failure is not None:
        progress(failure_text(done.failure, as_json=False))


def fetched(args: Namespace) -> Fetched:
    """Fetch what the options mean."""
    evidence = None if args.report is None else parse_evidence(read_file(args.report))
    theirs = is_intels(args, evidence)
    there = args.service is not None
    sources = _sources(args, online=not there)
    plans: Sequence[Plan] = [_intels(args, evidence, sources)] if theirs else amd_plans(args, evidence)
    if theirs:
        sources = _with_root(sources, _quote(evidence))
    done = Fetched(None, [], None)
    for plan in plans:  # more than one only when the report does not say its product
        done = Fetched(None, *fetch_there(args, plan)) if there else _fetch_plan(args, plan, sources, stop=not theirs)
        if not isinstance(done.failure, CollateralNotFound):
            break
    return done


def _intels(args: Namespace, evidence: Evidence | None, sources: Sources) -> Plan:
    return intel_plan(args, _quote(evidence), sources.intel_anchors, sources.intel)


def _quote(evidence: Evidence | None) -> Quote | None:
    return evidence.quote if isinstance(evidence, QuoteEvidence) else None


def _with_root(sources: Sources, quote: Quote | None) -> Sources:
    """A test root that only the quote brings."""
    if quote is None:
        return sources
    return sources._replace(intel_anchors=with_root_of_quote(quote, sources.intel_anchors))


def _sources(args: Namespace, *, online: bool) -> Sources:
    roots, intel_anchors = split_roots(args.root)
    return Sources(
        source_of(args, online=online), anchors_with(roots), pcs_source_of(args, online=online), intel_anchors
    )


def _fetch_plan(args: Namespace, plan: Plan, sources: Sources, *, stop: bool) -> Fetched:
    """``stop``: where the maker knows no such thing the rest of the plan is not asked for."""
    now, budget = datetime.now(UTC), Budget(sources.amd.clock, args.wait)
    failure: CollateralUnavailable | None = None
    items = []
    for wanted in plan:
        got = get(sources, wanted, now, budget, refresh=args.refresh)
        failure = failure or got.problem
        items.append(got.item)
        if stop and isinstance(got.problem, CollateralNotFound):
            break
    return Fetched(str(sources.amd.cache.folder), items, failure)


def status(args: Namespace) -> int:
    """List the cache; 0."""
    now = datetime.now(UTC)
    found = cache_json(_sources(args, online=False), now) if args.service is None else status_there(args)
    if args.json:
        print_json({"schema": "attest.collateral.status/1", **found})
    else:
        _print_status(found, now)
    return 0


def _print_status(found: Mapping[str, Any], now: datetime) -> None:
    items = found["items"]
    print_text(f"cache {found['cache']}: {len(items)} items")
    rows = [("STATE", "EXPIRES", "FETCHED", "ITEM")]
    rows += [(item["state"], _day(item["expires"]), _day(item["fetched"]), item["title"]) for item in _by_expiry(items)]
    print_table(rows if items else [])
    for item in items:
        if item.get("warning_days") is not None:
            print_text(f"warning: {item['title']}: ends {item['expires']}, in less than {item['warning_days']} d")
    for failure in found["failures"]:
        print_text(f"not asked again before {failure['until']}: {failure['message']}")
    _print_renewal(found["renewal"], now)


def _print_renewal(state: Mapping[str, Any] | None, now: datetime) -> None:
    """What the service that renews this cache said last; nothing where none ever did."""
    if state is None:
        return
    if now - datetime.fromisoformat(state["at"]) > STOPPED_AFTER:
        print_text(f"warning: no service has renewed what is here since {state['at']}")
    else:
        print_text(f"a running service renews what is here, last seen {state['at']}")
    for name in state["failing"]:
        print_text(f"warning: {name} could not be renewed; the last one stays in use")


def bundle(args: Namespace) -> int:
    """Write the bundle, say what in it expires when; 0."""
    sources, now = _sources(args, online=False), datetime.now(UTC)
    try:
        data = export_bundle(sources.amd, sources.anchors, now, Intel(sources.intel, sources.intel_anchors))
    except ValueError as exc:
        raise ConfigInvalid("bundle", (str(exc),)) from None
    replace_file(args.output, data)
    items = tuple(item for item in cache_status(sources.amd, sources.anchors, now) if item.fetched is not None)
    theirs = tuple(item for item in intel_status(sources.intel, sources.intel_anchors, now) if item.fetched is not None)
    listed = items_json(items, theirs, now)
    if args.json:
        print_json({"schema": "attest.collateral.bundled/1", "file": str(args.output), "items": listed})
        return 0
    print_text(f"{args.output}: {len(listed)} items, {len(data)} bytes")
    print_table([(item["state"], _day(item["expires"]), item["title"]) for item in _by_expiry(listed)])
    return 0


def load(args: Namespace) -> int:
    """Import a bundle; 0."""
    data = read_file(args.file, limit=MAX_BUNDLE)
    cache, items = _load(args, data) if args.service is None else (None, load_there(args, data))
    if args.json:
        print_json({"schema": "attest.collateral.import/1", "cache": cache, "items": items})
    else:
        print_table([(item["outcome"], item["title"]) for item in items])
        print_text(f"{'the service' if cache is None else f'cache {cache}'}: {len(items)} items verified")
    return 0


def _load(args: Namespace, data: bytes) -> tuple[str, list[dict[str, str]]]:
    sources = _sources(args, online=False)
    intel = Intel(sources.intel, sources.intel_anchors)
    done = import_bundle(sources.amd, data, sources.anchors, datetime.now(UTC), intel)
    return str(sources.amd.cache.folder), [item.to_json() for item in done]


def _by_expiry(items: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What ends first stands first; what is damaged stands before everything."""
    return sorted(items, key=lambda item: (item["fetched"] is not None, item["expires"] or ""))


def _day(value: str | None) -> str:
    return "-" if value is None else f"{value[:10]} {value[11:16]}Z"
