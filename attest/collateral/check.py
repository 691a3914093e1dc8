"""Is an answer what was asked for, and AMD's? Everything is checked here before it is kept, and again when it is read.

    VCEK    one leaf; product, hwID and every TCB part equal what was asked; the chain to a trusted root holds
    chain   an ASK (or ASVK) and an ARK of the product, the root trusted, the link between them good
    CRL     issued and signed by a trusted root of the product

Dates are judged as of the certificate's own issue: whether it is still valid, and whether a list is stale or names an
intermediate, is the verifier's decision on every use. Content types are not looked at, only content.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from attest.collateral.errors import CollateralRefused
from attest.collateral.published import published_authorities
from attest.collateral.wanted import Family, Kind, Wanted
from attest.endorsement.amd import walk_chain
from attest.endorsement.amd_cache import ChainCache
from attest.endorsement.amd_links import verify_authorities
from attest.endorsement.anchors import TrustAnchors
from attest.endorsement.crl import crl_signed_by
from attest.endorsement.errors import EndorsementMissing, VerificationFailed
from attest.endorsement.pool import EndorsementSet
from attest.evidence.amd_certificate import AmdCertificate, AmdCrl, Role
from attest.evidence.collateral_file import CollateralFile, read_collateral_file
from attest.evidence.errors import EvidenceMalformed

_INTERMEDIATE = {Family.VCEK: Role.ASK, Family.VLEK: Role.ASVK}


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that was wanted, verified: a leaf, an intermediate and a root, or a list."""

    wanted: Wanted
    certificates: tuple[AmdCertificate, ...] = ()
    crl: AmdCrl | None = None

    @property
    def ders(self) -> tuple[bytes, ...]:
        """The bytes, in a fixed order (a chain: intermediate, then root)."""
        return tuple(item.der for item in self.certificates) + (() if self.crl is None else (self.crl.der,))

    @property
    def endorsements(self) -> EndorsementSet:
        """The same as a pool."""
        return EndorsementSet.of(self.certificates, () if self.crl is None else (self.crl,))


def check_answer(wanted: Wanted, body: bytes, anchors: TrustAnchors, authorities: EndorsementSet) -> Item:
    """The item in an answer's body (PEM or DER). ``authorities`` are intermediates and roots to verify a leaf with.

    Raises :class:`CollateralRefused`.
    """
    return _check(wanted, read_collateral_file(body), anchors, authorities)


def check_parts(wanted: Wanted, ders: Iterable[bytes], anchors: TrustAnchors, authorities: EndorsementSet) -> Item:
    """The same for DER values from a cache or bundle."""
    certificates: list[AmdCertificate] = []
    crls: list[AmdCrl] = []
    try:
        for der in ders:
            if wanted.kind is Kind.CRL:
                crls.append(AmdCrl.parse(der))
            else:
                certificates.append(AmdCertificate.parse(der))
    except EvidenceMalformed as exc:
        raise CollateralRefused(f"{wanted}: {exc}") from None
    return _check(wanted, CollateralFile(tuple(certificates), tuple(crls)), anchors, authorities)


def _check(wanted: Wanted, found: CollateralFile, anchors: TrustAnchors, authorities: EndorsementSet) -> Item:
    if found.damaged:
        raise CollateralRefused(f"{wanted}: the answer is damaged: {found.damaged[0].message}")
    if wanted.kind is Kind.VCEK:
        return _leaf(wanted, found, anchors, authorities)
    if wanted.kind is Kind.CHAIN:
        return _chain(wanted, found, anchors)
    return _crl(wanted, found, anchors, authorities)


def _leaf(wanted: Wanted, found: CollateralFile, anchors: TrustAnchors, authorities: EndorsementSet) -> Item:
    leaves = [item for item in found.certificates if item.role is Role.VCEK]
    if len(leaves) != 1:
        raise CollateralRefused(f"{wanted}: the answer holds {len(leaves)} VCEKs, want one")
    leaf = leaves[0]
    if leaf.amd is None or leaf.product is not wanted.product:
        raise CollateralRefused(f"{wanted}: the answer is a {leaf.product.value} VCEK")
    if leaf.amd.hwid != wanted.hwid:
        raise CollateralRefused(f"{wanted}: the answer is for chip {(leaf.amd.hwid or b'').hex()[:16]}…")
    if leaf.amd.tcb != wanted.tcb:
        raise CollateralRefused(f"{wanted}: the answer is for TCB {leaf.amd.tcb}")
    pool = authorities + published_authorities() + EndorsementSet.of(anchors.test_roots)
    try:
        walk_chain(leaf, pool, anchors, leaf.not_before, ChainCache())
    except (VerificationFailed, EndorsementMissing, EvidenceMalformed) as exc:
        raise CollateralRefused(f"{wanted}: the answer does not verify: {exc}") from None
    return Item(wanted, (leaf,))


def _chain(wanted: Wanted, found: CollateralFile, anchors: TrustAnchors) -> Item:
    role = _INTERMEDIATE[wanted.family]
    of_product = [item for item in found.certificates if item.product is wanted.product]
    intermediates = [item for item in of_product if item.role is role]
    roots = [item for item in of_product if item.role is Role.ARK]
    if len(intermediates) != 1 or len(roots) != 1:
        raise CollateralRefused(
            f"{wanted}: the answer holds {len(intermediates)} {role.value} and {len(roots)} ARK certificates of "
            f"{wanted.product.value}, want one of each"
        )
    try:
        if anchors.name_of(roots[0]) is None:
            raise CollateralRefused(
                f"{wanted}: the key of {roots[0].subject_cn} is not AMD's and no test root names it"
            )
        verify_authorities(intermediates[0], roots[0])
    except (VerificationFailed, EvidenceMalformed) as exc:
        raise CollateralRefused(f"{wanted}: the answer does not verify: {exc}") from None
    return Item(wanted, (intermediates[0], roots[0]))


def _crl(wanted: Wanted, found: CollateralFile, anchors: TrustAnchors, authorities: EndorsementSet) -> Item:
    if len(found.crls) != 1 or found.certificates:
        raise CollateralRefused(
            f"{wanted}: the answer holds {len(found.crls)} lists and {len(found.certificates)} certificates, "
            "want one list"
        )
    crl = found.crls[0]
    if crl.product is not wanted.product:
        raise CollateralRefused(f"{wanted}: the answer is a list of ARK-{crl.product.value}")
    for root in trusted_roots(wanted, anchors, authorities):
        if crl_signed_by(crl, root):
            return Item(wanted, crl=crl)
    raise CollateralRefused(f"{wanted}: the list is not signed by a trusted root of {wanted.product.value}")


def trusted_roots(wanted: Wanted, anchors: TrustAnchors, authorities: EndorsementSet) -> tuple[AmdCertificate, ...]:
    """Root certificates of the product at hand whose key is trusted."""
    return tuple(
        root
        for root in (*anchors.test_roots, *published_authorities().roots, *authorities.roots)
        if root.product is wanted.product and _trusted(root, anchors)
    )


def _trusted(root: AmdCertificate, anchors: TrustAnchors) -> bool:
    try:
        return anchors.name_of(root) is not None
    except EvidenceMalformed:
        return False
