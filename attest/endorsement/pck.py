"""Which PCK chain stands behind a quote: the one inside it, or certificates at hand that fit what it says.

    type 5     the chain is in the quote
    type 4     the certificate is in the quote, its authority and the root are at hand
    1 to 3     the quote names a PCK key: a certificate at hand of that PCE id, not newer than that PCESVN and (type 1)
               of that PPID, whose key signed the QE report; a PPID that is encrypted only Intel can read

Certificates at hand are collateral like any other, from a registration or a caching service. Nothing is taken on
their word: the chain is walked as one from inside a quote, and its key must have signed the QE report. Source: Intel,
*SGX ECDSA Quote Library API*, appendix A.4, table "QE Certification Data".
"""

from __future__ import annotations

from collections.abc import Iterator

from attest.endorsement.errors import EndorsementMissing, VerificationFailed
from attest.endorsement.intel import IntelAnchors, IntelCache, IntelChain, pck_chain
from attest.endorsement.intel_pool import IntelCollateral
from attest.evidence.certification import PCK_CHAIN, PCK_LEAF, PckIdentity
from attest.evidence.intel_certificate import PCK_AUTHORITIES, IntelCertificate, IntelRole
from attest.evidence.quote import Quote


def platform_chain(quote: Quote, pool: IntelCollateral, anchors: IntelAnchors, cache: IntelCache) -> IntelChain:
    """The chain, its signatures verified; dates and revocation are not looked at.

    Raises :class:`VerificationFailed`, :class:`EvidenceMalformed`, and :class:`EndorsementMissing` where the quote has
    no chain and none at hand fits.
    """
    inside = [IntelCertificate.parse(der) for der in quote.certification.certificates()]
    if quote.certification.type == PCK_CHAIN:
        return pck_chain(inside, anchors, cache)
    leaves = inside if quote.certification.type == PCK_LEAF else list(_named(quote, pool))
    failures = []
    for certificates in _paths(leaves, pool, anchors):
        try:
            return pck_chain(certificates, anchors, cache)
        except VerificationFailed as exc:
            failures.append(exc)
    if failures:
        raise max(failures, key=lambda failure: failure.number)
    raise _missing(quote, leaves)


def _named(quote: Quote, pool: IntelCollateral) -> Iterator[IntelCertificate]:
    """The PCK certificates at hand that may be the one a quote names, and whose key signed its QE report."""
    identity = quote.certification.identity
    for leaf in pool.by_role(IntelRole.PCK) if identity is not None else ():
        if _fits(leaf, identity) and leaf.key.verifies(quote.qe_report_signature, quote.qe_report.sha256):
            yield leaf


def _fits(leaf: IntelCertificate, identity: PckIdentity | None) -> bool:
    sgx = leaf.sgx
    if sgx is None or identity is None or identity.pceid not in (None, sgx.pceid):
        return False
    return sgx.pcesvn <= identity.pcesvn and (identity.encrypted or identity.ppid == sgx.ppid)


def _paths(
    leaves: list[IntelCertificate], pool: IntelCollateral, anchors: IntelAnchors
) -> Iterator[tuple[IntelCertificate, IntelCertificate, IntelCertificate]]:
    """Leaf, authority and root in every way that fits by name."""
    roots = {root.sha256: root for root in (*anchors.test_roots, *pool.by_role(IntelRole.ROOT))}
    for leaf in leaves:
        for authority in pool.certificates:
            if authority.role in PCK_AUTHORITIES and authority.is_issuer_of(leaf):
                yield from ((leaf, authority, root) for root in roots.values())


def _missing(quote: Quote, leaves: list[IntelCertificate]) -> EndorsementMissing:
    kind = f"certification data type {quote.certification.type} ({quote.certification.name})"
    what = "its PCK certificate" if not leaves else "the authority of its PCK certificate, or the root"
    return EndorsementMissing(
        f"endorsement: the quote has {kind} and {what} is not at hand",
        hint="supply the platform's PCK certificate chain with --collateral",
    )
