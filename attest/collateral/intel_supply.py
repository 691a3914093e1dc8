"""What one quote needs beside the certificates in it: TCB info and QE identity of its platform, two revocation lists.

The chain in the quote is verified first: its FMSPC and authority decide what is asked for, and a stranger who invents
platforms must not make us ask Intel about them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from attest.collateral.clock import Budget
from attest.collateral.errors import CollateralUnavailable
from attest.collateral.intel_check import IntelItem
from attest.collateral.intel_source import PcsSource
from attest.collateral.intel_wanted import IntelWanted, PckCa, Tee, wanted_of_platform
from attest.endorsement.errors import EndorsementMissing, VerificationFailed
from attest.endorsement.intel import IntelAnchors, IntelCache, IntelChain
from attest.endorsement.intel_pool import IntelCollateral
from attest.endorsement.pck import platform_chain
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.intel_certificate import PCK_AUTHORITIES
from attest.evidence.quote import Quote
from attest.evidence.td_report import TdReportBody

_NOTHING = IntelCollateral()


@dataclass(frozen=True, slots=True)
class IntelSupplied:
    """What was found; ``problems`` are the reasons for what is missing or old.

    ``lists_confirmed`` is when the list that was confirmed longest ago was fetched; ``None`` where one is missing.
    """

    items: tuple[IntelItem, ...] = ()
    problems: tuple[CollateralUnavailable, ...] = ()
    lists_confirmed: datetime | None = None

    @property
    def collateral(self) -> IntelCollateral:
        """The same as a pool."""
        pool = IntelCollateral()
        for item in self.items:
            pool += item.collateral
        return pool


def fetch_for_quote(
    quote: Quote,
    source: PcsSource,
    anchors: IntelAnchors,
    now: datetime,
    budget: Budget,
    own: IntelCollateral = _NOTHING,
) -> IntelSupplied:
    """Everything from the cache or the service. Raises nothing about what is missing: that is part of the result.

    ``own`` is what is at hand, for quotes without their chain. Nothing where the chain does not hold: the verifier says
    why.
    """
    chain = _chain(quote, anchors, source.chains, own)
    if chain is None:
        return IntelSupplied()
    trusted = _with_root(anchors, chain)
    items, problems, lists = list[IntelItem](), list[CollateralUnavailable](), list[datetime]()
    for wanted in _wanted(quote, chain, source):
        try:
            held = source.get(wanted, trusted, now, budget)
        except CollateralUnavailable as exc:
            problems.append(exc)
            continue
        if held is None:
            continue
        items.append(held.item)
        if wanted.is_list:
            lists.append(held.fetched)
        if held.problem is not None:
            problems.append(held.problem)
    return IntelSupplied(tuple(items), tuple(problems), min(lists) if len(lists) == 2 else None)


def wanted_of_quote(quote: Quote, source: PcsSource, anchors: IntelAnchors) -> tuple[IntelWanted, ...]:
    """What can be asked for; nothing where the quote's chain does not hold."""
    chain = _chain(quote, anchors, source.chains)
    return () if chain is None else _wanted(quote, chain, source)


def with_root_of_quote(quote: Quote, anchors: IntelAnchors) -> IntelAnchors:
    """The same keys, and the quote's own root certificate where its key is among them."""
    chain = _chain(quote, anchors, IntelCache())
    return anchors if chain is None else _with_root(anchors, chain)


def _wanted(quote: Quote, chain: IntelChain, source: PcsSource) -> tuple[IntelWanted, ...]:
    sgx = chain.leaf.sgx
    if sgx is None:
        return ()
    tee = Tee.TDX if isinstance(quote.body, TdReportBody) else Tee.SGX
    ca = PckCa(PCK_AUTHORITIES[chain.certificates[1].role])
    return wanted_of_platform(tee, sgx.fmspc, ca, source.channel)


def _chain(
    quote: Quote, anchors: IntelAnchors, cache: IntelCache, own: IntelCollateral = _NOTHING
) -> IntelChain | None:
    try:
        return platform_chain(quote, own, anchors, cache)
    except (EvidenceMalformed, VerificationFailed, EndorsementMissing):
        return None


def _with_root(anchors: IntelAnchors, chain: IntelChain) -> IntelAnchors:
    """A policy names test roots by digest only; the list of a root is verified with its certificate."""
    if chain.root in anchors.test_roots:
        return anchors
    return IntelAnchors(anchors.keys, (*anchors.test_roots, chain.root))
