"""Carrying a cache to a machine without a network: out into one file, and in again after verifying every item."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from attest.collateral.cache import Entry
from attest.collateral.check import Item, check_parts
from attest.collateral.errors import BundleRefused, CollateralRefused
from attest.collateral.intel_bundle import (
    intel_bundle_items,
    intel_items_of_file,
    is_intels,
    store_intel,
    verified_intel,
)
from attest.collateral.intel_check import IntelItem
from attest.collateral.intel_source import PcsSource
from attest.collateral.intel_wanted import IntelWanted
from attest.collateral.source import CollateralSource, Held, refuse_older
from attest.collateral.wanted import Kind, NotAskable, Wanted, wanted_from_name, wanted_vcek
from attest.endorsement.anchors import TrustAnchors
from attest.endorsement.intel import IntelAnchors
from attest.endorsement.pool import EndorsementSet
from attest.evidence.amd_certificate import Role
from attest.evidence.bundle import (
    MAX_BUNDLE,
    BundleItem,
    BundleMalformed,
    build_bundle,
    looks_like_bundle,
    parse_bundle,
)
from attest.evidence.collateral_file import read_collateral_file

STORED, KEPT = "stored", "kept"
_SKEW = timedelta(days=1)
_SOURCE = "bundle"
_ORDER = (Kind.CHAIN, Kind.VCEK, Kind.CRL)


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one item: ``stored``, or ``kept`` when the cache has the same or a newer one."""

    wanted: Wanted | IntelWanted
    outcome: str

    def to_json(self) -> dict[str, str]:
        """As plain data."""
        return {"name": self.wanted.name, "title": str(self.wanted), "outcome": self.outcome}


class Intel(NamedTuple):
    """Intel's side of the same cache, and the roots it is verified under."""

    source: PcsSource
    anchors: IntelAnchors


def export_bundle(source: CollateralSource, anchors: TrustAnchors, now: datetime, intel: Intel | None = None) -> bytes:
    """Everything in the cache that verifies. The same cache gives the same bytes. Raises ValueError beyond the size
    that can be imported.
    """
    items = [] if intel is None else intel_bundle_items(intel.source, intel.anchors, now)
    for wanted in source.things():
        held = source.cached(wanted, anchors, now)
        if held is not None:
            items.append(BundleItem(wanted.name, held.fetched, held.item.ders))
    data = build_bundle(items)
    if len(data) > MAX_BUNDLE:
        raise ValueError(f"{len(items)} items make {len(data)} bytes, a bundle holds {MAX_BUNDLE}")
    return data


def import_bundle(
    source: CollateralSource, data: bytes, anchors: TrustAnchors, now: datetime, intel: Intel | None = None
) -> tuple[Imported, ...]:
    """Verify all items, then store those that are newer than what the cache has.

    ``data`` is a bundle, or any file with VCEKs (the extended report of a new machine, say) or with Intel's documents
    and lists: those are taken. Raises BundleMalformed, BundleRefused (nothing is stored), CacheUnusable.
    """
    items = parse_bundle(data) if looks_like_bundle(data) else _from_file(data, now, intel)
    if intel is None:
        verified = _verified(items, anchors, now)
        source.cache.prepare()
        return tuple(_store(source, item, fetched, anchors, now) for item, fetched in verified)
    verified = _verified(tuple(item for item in items if not is_intels(item.name)), anchors, now)
    theirs = _verified_intel(tuple(item for item in items if is_intels(item.name)), intel.anchors, now)
    source.cache.prepare()
    done = [_store(source, item, fetched, anchors, now) for item, fetched in verified]
    for found, fetched in theirs:
        kept = store_intel(intel.source, found, fetched, intel.anchors, now)
        done.append(Imported(found.wanted, STORED if kept else KEPT))
    return tuple(done)


def _verified_intel(
    items: tuple[BundleItem, ...], anchors: IntelAnchors, now: datetime
) -> list[tuple[IntelItem, datetime]]:
    for item in items:
        _not_of_the_future(item.name, item.fetched, now)
    try:
        return [(item, min(fetched, now)) for item, fetched in verified_intel(items, anchors)]
    except CollateralRefused as exc:
        raise BundleRefused(f"bundle: {exc.message}") from None


def _not_of_the_future(what: object, fetched: datetime, now: datetime) -> None:
    if fetched > now + _SKEW:
        raise BundleRefused(f"bundle: {what}: fetched {fetched:%Y-%m-%d}, which is in the future")


def _verified(items: tuple[BundleItem, ...], anchors: TrustAnchors, now: datetime) -> list[tuple[Item, datetime]]:
    """Chains first: leaves are verified with them."""
    named = [(_wanted(item), item) for item in items]
    authorities = EndorsementSet()
    verified = []
    for wanted, item in sorted(named, key=lambda pair: (_ORDER.index(pair[0].kind), pair[0].name)):
        _not_of_the_future(wanted, item.fetched, now)
        try:
            checked = check_parts(wanted, item.parts, anchors, authorities)
        except CollateralRefused as exc:
            raise BundleRefused(f"bundle: {exc.message}") from None
        if wanted.kind is Kind.CHAIN:
            authorities += checked.endorsements
        verified.append((checked, min(item.fetched, now)))
    return verified


def _from_file(data: bytes, now: datetime, intel: Intel | None) -> tuple[BundleItem, ...]:
    """The VCEKs of any collateral or evidence file, under the names their own extensions give, and the chain above;
    else Intel's documents and lists.
    """
    found = read_collateral_file(data)
    items: dict[str, BundleItem] = {}
    for leaf in found.certificates:
        if leaf.role is not Role.VCEK or leaf.amd is None or leaf.amd.hwid is None:
            continue
        try:
            wanted = wanted_vcek(leaf.product, leaf.amd.hwid, leaf.amd.tcb.to_bytes())
        except NotAskable as exc:
            raise BundleMalformed(f"import: {exc.message}") from None
        items[wanted.name] = BundleItem(wanted.name, now, (leaf.der,))
        above = {item.role: item.der for item in found.certificates if item.product is leaf.product}
        if Role.ASK in above and Role.ARK in above:
            chain = Wanted(Kind.CHAIN, leaf.product).name
            items[chain] = BundleItem(chain, now, (above[Role.ASK], above[Role.ARK]))
    theirs = intel_items_of_file(data, now) if intel is not None and not items else ()
    if theirs:
        return theirs
    if not items:
        reason = found.damaged[0].message if found.damaged else "holds no VCEK, no document and no list of Intel's"
        raise BundleMalformed(f"import: no bundle, and {reason}")
    return tuple(items.values())


def _wanted(item: BundleItem) -> Wanted:
    try:
        return wanted_from_name(item.name)
    except NotAskable as exc:
        raise BundleMalformed(f"bundle: {exc.message}") from None


def _store(source: CollateralSource, item: Item, fetched: datetime, anchors: TrustAnchors, now: datetime) -> Imported:
    with source.cache.lock(item.wanted, 10.0):
        held = source.cached(item.wanted, anchors, now)
        if held is not None and not _newer(item, fetched, held):
            return Imported(item.wanted, KEPT)
        source.cache.write(Entry(item.wanted, item.ders, fetched, _SOURCE))
    return Imported(item.wanted, STORED)


def _newer(item: Item, fetched: datetime, held: Held) -> bool:
    if item.wanted.kind is Kind.VCEK:
        return False  # another certificate of the same key says nothing new
    try:
        refuse_older(item, held)
    except CollateralRefused:
        return False
    return fetched > held.fetched
