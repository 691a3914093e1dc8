"""What one report needs and the evidence did not bring: its VCEK, the chain above it, the list of its root.

A VLEK cannot be fetched (AMD gives it to the cloud only); its chain and list can. Before version 3 a report does not
name its product: the certificates at hand do, else Milan is tried and then Genoa (such a report is never of Turin).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from attest.collateral.clock import Budget
from attest.collateral.errors import CollateralNotFound, CollateralUnavailable
from attest.collateral.source import CollateralSource, Held
from attest.collateral.wanted import Family, Kind, NotAskable, Wanted, wanted_vcek
from attest.endorsement.anchors import TrustAnchors
from attest.endorsement.pool import EndorsementSet
from attest.evidence.errors import EvidenceUnsupported
from attest.evidence.product import product_of_report
from attest.evidence.snp_report import SnpReport
from policy.snp import SigningKey
from policy.vocab import SnpProduct

_FAMILY = {SigningKey.VCEK: Family.VCEK, SigningKey.VLEK: Family.VLEK}


@dataclass(frozen=True, slots=True)
class Supplied:
    """What was found beside what was at hand; ``problems`` are the reasons for what is missing or old.

    ``crl_confirmed`` is when the list among it was last fetched or confirmed, ``None`` without a list.
    """

    endorsements: EndorsementSet = field(default_factory=EndorsementSet)
    problems: tuple[CollateralUnavailable, ...] = ()
    crl_confirmed: datetime | None = None


@dataclass(frozen=True, slots=True)
class Supplier:
    """Looks things up for reports under given trust anchors."""

    source: CollateralSource
    anchors: TrustAnchors
    now: datetime
    budget: Budget

    def supply(self, report: SnpReport, have: EndorsementSet) -> Supplied:
        """Raises nothing about what is missing: that is part of the result."""
        family = _FAMILY.get(report.signing_key)
        if family is None:
            return Supplied()
        problems: list[CollateralUnavailable] = []
        found = EndorsementSet()
        for product in self._products(report, have):
            more, crl_confirmed, trouble = self._of_product(report, have, product, family)
            problems += trouble
            found += more
            if (have + more).endorses(report, product):
                return Supplied(found, tuple(problems), crl_confirmed)
        return Supplied(found, tuple(problems))

    def _products(self, report: SnpReport, have: EndorsementSet) -> tuple[SnpProduct, ...]:
        """:func:`products_of`, narrowed by a leaf that fits, at hand or cached, so that nobody is asked in vain."""
        possible = products_of(report)
        for product in possible if len(possible) > 1 else ():
            leaf = _leaf_wanted(report, have, product)
            at_hand = have.endorses(report, product)
            if at_hand or (leaf is not None and self.source.cached(leaf, self.anchors, self.now) is not None):
                return (product,)
        return possible

    def _of_product(
        self, report: SnpReport, have: EndorsementSet, product: SnpProduct, family: Family
    ) -> tuple[EndorsementSet, datetime | None, list[CollateralUnavailable]]:
        problems: list[CollateralUnavailable] = []
        found = EndorsementSet()
        leaf = _leaf_wanted(report, have, product)
        chain, crl = Wanted(Kind.CHAIN, product, family), Wanted(Kind.CRL, product, family)
        confirmed: datetime | None = None
        for wanted in (chain, leaf, crl):
            if wanted is None:
                continue
            held = self._get(wanted, problems)
            if held is not None:
                found += held.item.endorsements
                confirmed = held.fetched if wanted is crl else confirmed
            if wanted is leaf and held is None:
                break  # without a leaf nothing can be verified, so a list would be asked for in vain
        return found, confirmed, problems

    def _get(self, wanted: Wanted, problems: list[CollateralUnavailable]) -> Held | None:
        try:
            held = self.source.get(wanted, self.anchors, self.now, self.budget)
        except CollateralUnavailable as exc:
            problems.append(exc)
            return None
        if held is not None and held.problem is not None:
            problems.append(held.problem)
        return held


def wanted_of_report(report: SnpReport, product: SnpProduct) -> tuple[Wanted, ...]:
    """Everything that can be fetched for a report: chain, VCEK (not for a VLEK), list. Raises NotAskable."""
    family = _FAMILY.get(report.signing_key)
    if family is None:
        raise NotAskable("report: signed by no key (the host masked the chip's key), so no certificate belongs to it")
    leaf = () if family is Family.VLEK else (wanted_vcek(product, report.chip_id, report.reported_tcb),)
    return (Wanted(Kind.CHAIN, product, family), *leaf, Wanted(Kind.CRL, product, family))


def most_helpful(problems: tuple[CollateralUnavailable, ...]) -> CollateralUnavailable | None:
    """Of several the one to show: anything else before "not found", which may only mean another product."""
    ordered = sorted(problems, key=lambda problem: isinstance(problem, CollateralNotFound))
    return ordered[0] if ordered else None


def products_of(report: SnpReport) -> tuple[SnpProduct, ...]:
    """The products a report may belong to. Empty for a CPU that is not known."""
    try:
        product = product_of_report(report)
    except EvidenceUnsupported:
        return ()
    return (SnpProduct.MILAN, SnpProduct.GENOA) if product is None else (product,)


def _leaf_wanted(report: SnpReport, have: EndorsementSet, product: SnpProduct) -> Wanted | None:
    if report.signing_key is not SigningKey.VCEK or have.endorses(report, product):
        return None
    try:
        return wanted_vcek(product, report.chip_id, report.reported_tcb)
    except NotAskable:
        return None  # the verifier says what is wrong with the report
