"""What ``attest collateral`` does."""

from __future__ import annotations

from argparse import Namespace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from attest.cli.collateral_cache import anchors_with, pcs_source_of, source_of
from attest.cli.collateral_intel import CACHED, FAILED, FETCHED, fetch_intel, intel_item_json, warnings_of
from attest.cli.common import print_json, print_table, print_text, progress
from attest.cli.evidence_file import read_file
from attest.cli.evidence_quote import split_roots
from attest.cli.failure import exit_code, failure_text
from attest.collateral.bundle import Intel, export_bundle, import_bundle
from attest.collateral.clock import Budget
from attest.collateral.errors import CollateralNotFound, CollateralUnavailable
from attest.collateral.intel_status import IntelItemStatus, intel_failures, intel_status
from attest.collateral.renewal import STOPPED_AFTER, RenewalState, renewal_state
from attest.collateral.source import CollateralSource
from attest.collateral.status import ItemStatus, cache_failures, cache_status, item_status
from attest.collateral.supply import products_of, wanted_of_report
from attest.collateral.wanted import Family, Kind, Wanted, wanted_vcek
from attest.endorsement.anchors import TrustAnchors
from attest.evidence.bundle import MAX_BUNDLE
from attest.evidence.recognise import Evidence, QuoteEvidence, SnpEvidence, parse_evidence
from attest.keys.files import replace_file
from policy.errors import ConfigInvalid, MalformedInput
from policy.snp import TcbVersion
from policy.vocab import SnpProduct


class Fetched(NamedTuple):
    """The cache's folder, what became of each thing, and the last failure."""

    cache: str
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
    if args.fmspc is not None or isinstance(evidence, QuoteEvidence):
        return _fetch_intel(args, evidence)
    if args.ca is not None or args.tee is not None:
        raise ConfigInvalid("fetch", ("--ca and --tee belong to --fmspc",))
    plans = _plans(args, evidence)
    source, anchors, now = source_of(args, online=True), anchors_with(args.root), datetime.now(UTC)
    budget = Budget(source.clock, args.wait)
    results: list[dict[str, Any]] = []
    failure: CollateralUnavailable | None = None
    for plan in plans:  # more than one only when the report does not say its product
        failure, results = _fetch_plan(plan, source, anchors, (now, budget, args.refresh))
        if not isinstance(failure, CollateralNotFound):
            break
    return Fetched(str(source.cache.folder), results, failure)


def _fetch_intel(args: Namespace, evidence: Evidence | None) -> Fetched:
    if args.product is not None or args.chip is not None or args.tcb is not None:
        raise ConfigInvalid("fetch", ("--product, --chip and --tcb are AMD's; a quote or --fmspc names Intel's",))
    if args.fmspc is not None and evidence is not None and not isinstance(evidence, QuoteEvidence):
        raise ConfigInvalid("fetch", ("want either evidence or --fmspc, not both",))
    quote = evidence.quote if isinstance(evidence, QuoteEvidence) else None
    anchors = split_roots(args.root)[1]
    return Fetched(*fetch_intel(args, quote, anchors, datetime.now(UTC)))


def _fetch_plan(
    plan: tuple[Wanted, ...], source: CollateralSource, anchors: TrustAnchors, how: tuple[datetime, Budget, bool]
) -> tuple[CollateralUnavailable | None, list[dict[str, Any]]]:
    now, budget, refresh = how
    failure: CollateralUnavailable | None = None
    results = []
    for wanted in plan:
        try:
            held = source.get(wanted, anchors, now, budget, refresh=refresh)
            problem = None if held is None else held.problem
        except CollateralUnavailable as exc:
            problem = exc
        failure = failure or problem
        known = item_status(source, wanted, anchors, now)
        outcome = FETCHED if known.fetched == now else CACHED
        results.append(
            {
                **_item_json(known, now),
                "outcome": outcome if problem is None else FAILED,
                "code": None if problem is None else problem.code,
                "message": None if problem is None else problem.message,
            }
        )
        if isinstance(problem, CollateralNotFound):
            break
    return failure, results


def _plans(args: Namespace, evidence: Evidence | None) -> list[tuple[Wanted, ...]]:
    """What to fetch; alternatives in order."""
    product = None if args.product is None else SnpProduct(args.product)
    if args.report is not None:
        if args.chip is not None or args.tcb is not None:
            raise ConfigInvalid("fetch", ("want either a report or --chip and --tcb, not both",))
        if not isinstance(evidence, SnpEvidence):
            raise ConfigInvalid("fetch", ("that evidence has no certificates anywhere: want a report or a quote",))
        report = evidence.report
        products = products_of(report) if product is None else (product,)
        if not products:
            raise ConfigInvalid("fetch", ("the report's CPU is of no known product: name it with --product",))
        return [wanted_of_report(report, each) for each in products]
    if product is None or (args.chip is None) != (args.tcb is None):
        raise ConfigInvalid("fetch", ("want a report, or --product with --chip and --tcb, or --product alone",))
    if args.chip is None:
        return [tuple(Wanted(kind, product, family) for family in Family for kind in (Kind.CHAIN, Kind.CRL))]
    leaf = wanted_vcek(product, args.chip, _tcb(args.tcb, product))
    return [(Wanted(Kind.CHAIN, product), leaf, Wanted(Kind.CRL, product))]


def _tcb(text: str, product: SnpProduct) -> bytes:
    """16 hex digits, or the parts in decimal with dots."""
    fmc = ("fmc",) if product is SnpProduct.TURIN else ()
    names = (*fmc, "bootloader", "tee", "snp", "microcode")
    parts = text.split(".")
    try:
        if len(parts) == 1:
            raw = bytes.fromhex(text)
            return TcbVersion.from_bytes(raw, product).to_bytes()
        return TcbVersion(**dict(zip(names, map(int, parts), strict=True))).to_bytes()
    except (ValueError, MalformedInput):
        want = f"16 hex digits, or {'.'.join(names)} in decimal"
        raise ConfigInvalid("--tcb", (f"got {text[:40]!r}, want {want} for {product.value}",)) from None


def status(args: Namespace) -> int:
    """List the cache; 0."""
    source, now = source_of(args, online=False), datetime.now(UTC)
    roots, anchors = split_roots(args.root)
    pcs = pcs_source_of(args, online=False)
    items = cache_status(source, anchors_with(roots), now)
    theirs = intel_status(pcs, anchors, now)
    failures = (*cache_failures(source, now), *intel_failures(pcs, now))
    if args.json:
        print_json(
            {
                "schema": "attest.collateral.status/1",
                "cache": str(source.cache.folder),
                "items": _items_json(items, theirs, now),
                "failures": [
                    {"name": item.wanted.name, "code": item.code, "message": item.message, "until": _time(item.until)}
                    for item in failures
                ],
                "renewal": _renewal_json(renewal_state(source.cache.folder)),
            }
        )
        return 0
    everything: tuple[ItemStatus | IntelItemStatus, ...] = (*items, *theirs)
    print_text(f"cache {source.cache.folder}: {len(everything)} items")
    rows = [("STATE", "EXPIRES", "FETCHED", "ITEM")]
    rows += [(item.state, _day(item.expires), _day(item.fetched), _described(item)) for item in _by_expiry(everything)]
    print_table(rows if everything else [])
    for warning in warnings_of(theirs):
        print_text(f"warning: {warning}")
    for failure in failures:
        print_text(f"not asked again before {_time(failure.until)}: {failure.message}")
    _print_renewal(renewal_state(source.cache.folder), now)
    return 0


def _renewal_json(state: RenewalState | None) -> dict[str, Any] | None:
    return None if state is None else {"at": _time(state.at), "failing": list(state.failing)}


def _print_renewal(state: RenewalState | None, now: datetime) -> None:
    """What the service that renews this cache said last; nothing where none ever did."""
    if state is None:
        return
    if now - state.at > STOPPED_AFTER:
        print_text(f"warning: no service has renewed what is here since {_time(state.at)}")
    else:
        print_text(f"a running service renews what is here, last seen {_time(state.at)}")
    for name in state.failing:
        print_text(f"warning: {name} could not be renewed; the last one stays in use")


def bundle(args: Namespace) -> int:
    """Write the bundle, say what in it expires when; 0."""
    source, now = source_of(args, online=False), datetime.now(UTC)
    roots, intel_anchors = split_roots(args.root)
    anchors, pcs = anchors_with(roots), pcs_source_of(args, online=False)
    try:
        data = export_bundle(source, anchors, now, Intel(pcs, intel_anchors))
    except ValueError as exc:
        raise ConfigInvalid("bundle", (str(exc),)) from None
    replace_file(args.output, data)
    items = tuple(item for item in cache_status(source, anchors, now) if item.fetched is not None)
    theirs = tuple(item for item in intel_status(pcs, intel_anchors, now) if item.fetched is not None)
    if args.json:
        listed = _items_json(items, theirs, now)
        print_json({"schema": "attest.collateral.bundled/1", "file": str(args.output), "items": listed})
        return 0
    everything: tuple[ItemStatus | IntelItemStatus, ...] = (*items, *theirs)
    print_text(f"{args.output}: {len(everything)} items, {len(data)} bytes")
    print_table([(item.state, _day(item.expires), _described(item)) for item in _by_expiry(everything)])
    return 0


def load(args: Namespace) -> int:
    """Import a bundle; 0."""
    source, now = source_of(args, online=False), datetime.now(UTC)
    data = read_file(args.file, limit=MAX_BUNDLE)
    roots, intel_anchors = split_roots(args.root)
    intel = Intel(pcs_source_of(args, online=False), intel_anchors)
    done = import_bundle(source, data, anchors_with(roots), now, intel)
    if args.json:
        items = [{"name": item.wanted.name, "outcome": item.outcome} for item in done]
        print_json({"schema": "attest.collateral.import/1", "cache": str(source.cache.folder), "items": items})
    else:
        print_table([(item.outcome, str(item.wanted)) for item in done])
        print_text(f"cache {source.cache.folder}: {len(done)} items verified")
    return 0


def _item_json(item: ItemStatus, now: datetime) -> dict[str, Any]:
    wanted, age = item.wanted, None if item.fetched is None else max(0, int((now - item.fetched).total_seconds()))
    return {
        "name": wanted.name,
        "kind": wanted.kind.value,
        "family": wanted.family.value,
        "product": wanted.product.value,
        "chip_id": None if wanted.hwid is None else wanted.hwid.hex(),
        "tcb": None if wanted.tcb is None else wanted.tcb.parts(),
        "state": item.state,
        "fetched": None if item.fetched is None else _time(item.fetched),
        "age_seconds": age,
        "expires": None if item.expires is None else _time(item.expires),
        "sha256": list(item.sha256),
    }


def _items_json(
    items: tuple[ItemStatus, ...], theirs: tuple[IntelItemStatus, ...], now: datetime
) -> list[dict[str, Any]]:
    return [_item_json(item, now) for item in items] + [intel_item_json(item, now) for item in theirs]


def _described(item: ItemStatus | IntelItemStatus) -> str:
    number = item.number if isinstance(item, IntelItemStatus) else None
    return str(item.wanted) if number is None else f"{item.wanted}, number {number}"


def _by_expiry(items: tuple[ItemStatus | IntelItemStatus, ...]) -> list[ItemStatus | IntelItemStatus]:
    """What ends first stands first; what is damaged stands before everything."""
    return sorted(items, key=lambda item: (item.fetched is not None, item.expires or datetime.min.replace(tzinfo=UTC)))


def _time(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _day(value: datetime | None) -> str:
    return "-" if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%MZ")
