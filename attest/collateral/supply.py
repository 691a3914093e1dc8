"""What one report needs and the evidence did not bring: its VCEK, the chain above it, the list of its root.

A VLEK cannot be fetched (AMD gives it to the cloud only); its chain and list can. Before version 3 a report does not
name its product: the certificates at hand do, else a chip id of 8 bytes is taken for Turin's, and for any other Milan
is tried and then Genoa.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from attest.collateral.clock import Budget
from attest.collateral.errors import CollateralNotFound, CollateralUnavailable
from attest.collateral.source import CollateralSource
from attest.collateral.wanted import Family, Kind, NotAskable, Wanted, wanted_vcek
from attest.endorsement.amd import walk_chain
from attest.endorsement.anchors import TrustAnchors
from attest.endorsement.errors import EndorsementMissing, VerificationFailed
from attest.endorsement.pool import EndorsementSet
from attest.evidence.amd_certificate import AmdCertificate
from attest.evidence.errors import EvidenceMalformed, EvidenceUnsupported
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
class _Got:
    """One thing, or nothing."""

    endorsements: EndorsementSet = field(default_factory=EndorsementSet)
    fetched: datetime | None = None


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
            if (have + more).fitting(report, product):
                return Supplied(found, tuple(problems), crl_confirmed)
        return Supplied(found, tuple(problems))

    def _products(self, report: SnpReport, have: EndorsementSet) -> tuple[SnpProduct, ...]:
        """:func:`products_of`, narrowed by a leaf that fits, at hand or cached, so that nobody is asked in vain."""
        possible = products_of(report)
        for product in possible if len(possible) > 1 else ():
            leaf = _leaf_wanted(report, have, product)
            at_hand = have.fitting(report, product)
            if at_hand or (leaf is not None and self.source.cached(leaf, self.anchors, self.now) is not None):
                return (product,)
        return possible

    def _of_product(
        self, report: SnpReport, have: EndorsementSet, product: SnpProduct, family: Family
    ) -> tuple[EndorsementSet, datetime | None, list[CollateralUnavailable]]:
        problems: list[CollateralUnavailable] = []
        found = EndorsementSet()
        leaf = _leaf_wanted(report, have, product)
        if leaf is not None:
            found += self._get(leaf, problems).endorsements
        leaves = (have + found).fitting(report, product)
        if not leaves:
            return found, None, problems  # nothing can be verified, so nothing else is asked for
        if not any(self._chain_holds(item, have + found) for item in leaves):
            found += self._get(Wanted(Kind.CHAIN, product, family), problems).endorsements
        crl = self._get(Wanted(Kind.CRL, product, family), problems)
        return found + crl.endorsements, crl.fetched, problems

    def _chain_holds(self, leaf: AmdCertificate, pool: EndorsementSet) -> bool:
        """Whether the authorities at hand vouch for the leaf, as of its own issue."""
        try:
            walk_chain(leaf, pool, self.anchors, leaf.not_before, self.source.chains)
        except (VerificationFailed, EndorsementMissing, EvidenceMalformed):
            return False
        return True

    def _get(self, wanted: Wanted, problems: list[CollateralUnavailable]) -> _Got:
        try:
            held = self.source.get(wanted, self.anchors, self.now, self.budget)
        except CollateralUnavailable as exc:
            problems.append(exc)
            return _Got()
        if held is None:
            return _Got()
        if held.problem is not None:
            problems.append(held.problem)
        return _Got(held.item.endorsements, held.fetched)


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
    if product is None:
        return (SnpProduct.TURIN,) if report.has_short_chip_id else (SnpProduct.MILAN, SnpProduct.GENOA)
    return (product,)


def _leaf_wanted(report: SnpReport, have: EndorsementSet, product: SnpProduct) -> Wanted | None:
    if report.signing_key is not SigningKey.VCEK or have.fitting(report, product):
        return None
    try:
        return wanted_vcek(product, report.chip_id, report.reported_tcb)
    except NotAskable:
        return None  # the verifier says what is wrong with the report
