"""AMD's chain, walked link by link: ARK (pinned) -> ASK -> VCEK, or ARK (pinned) -> ASVK -> VLEK.

Generic path builders refuse AMD's certificates (explicit PSS defaults, leaves without basicConstraints), so the walk is
our own, over ``cryptography``'s primitives, always at this fixed depth: the root's key is pinned for the product, the
links are those of :mod:`attest.endorsement.amd_links`, all three certificates are valid at ``now``, and the
intermediate is not on the root's CRL, where there is one.

Between two dates that stand in certificates or lists nothing can change: a walk that succeeded is not repeated for the
same ones before the next such date (:mod:`attest.endorsement.amd_cache`). Source: AMD 57230, chapters 2 and 3; RFC
5280, section 6.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from attest.endorsement.amd_cache import ChainCache
from attest.endorsement.amd_links import CA_NAME, TrustedEndorsement, check_dates
from attest.endorsement.anchors import TrustAnchors
from attest.endorsement.crl import revocation_status
from attest.endorsement.errors import EndorsementMissing, VerificationFailed
from attest.endorsement.pool import EndorsementSet
from attest.evidence.amd_certificate import AmdCertificate, Role
from attest.evidence.errors import EvidenceMalformed


def walk_chain(
    leaf: AmdCertificate, pool: EndorsementSet, anchors: TrustAnchors, now: datetime, cache: ChainCache
) -> TrustedEndorsement:
    """Find and verify a chain from ``leaf`` to a trusted root among the certificates of ``pool``.

    Where several certificates fit a place, each is tried and one good chain is enough. Raises
    :class:`VerificationFailed` with the furthest step that was reached, or :class:`EndorsementMissing` when a place is
    empty. ``now`` is an aware datetime.
    """
    given = (anchors, pool.intermediates, pool.roots, pool.crls)
    known = cache.walked(leaf, given, now)
    if known is None:
        known = _walk(leaf, pool, anchors, now, cache)
        cache.keep_walk(leaf, given, now, known)
    return known


def _walk(
    leaf: AmdCertificate, pool: EndorsementSet, anchors: TrustAnchors, now: datetime, cache: ChainCache
) -> TrustedEndorsement:
    failures: list[VerificationFailed] = []
    for intermediate, root in _paths(leaf, pool, anchors):
        try:
            chain = cache.chain(leaf, intermediate, root)
            check_dates(chain, now)
            status = revocation_status(intermediate, root, pool.crls, now, cache.crl_signed)
        except VerificationFailed as exc:
            failures.append(exc)
            continue
        return TrustedEndorsement(chain, _trusted_name(root, anchors), status)
    _raise_foreign_root(leaf, pool, anchors, cache)
    raise max(failures, key=lambda failure: failure.number)


def _raise_foreign_root(leaf: AmdCertificate, pool: EndorsementSet, anchors: TrustAnchors, cache: ChainCache) -> None:
    """A chain that holds under a root nobody trusts deserves that reason, not "a signature does not verify"."""
    for root in pool.roots:
        if root.product is not leaf.product or _pinned(root, anchors):
            continue
        for intermediate in pool.issuers(leaf):
            try:
                cache.chain(leaf, intermediate, root)
            except VerificationFailed:
                continue
            raise _foreign(root.subject_cn)


def _foreign(name: str) -> VerificationFailed:
    return VerificationFailed(
        "root", f"certificate {name}: its key is not AMD's and no test root names it", hint="the chain is forged"
    )


def _paths(
    leaf: AmdCertificate, pool: EndorsementSet, anchors: TrustAnchors
) -> Iterator[tuple[AmdCertificate, AmdCertificate]]:
    """Pairs of intermediate and root to try; at least one, or an error."""
    roots = _trusted_roots(leaf, pool, anchors)
    issuers = pool.issuers(leaf)
    if not issuers:
        prefix = CA_NAME[Role.ASK if leaf.role is Role.VCEK else Role.ASVK]
        _raise_damage(pool)
        raise EndorsementMissing(
            f"endorsement: no certificate {prefix}{leaf.product.value} for the {leaf.role.value}",
            hint="supply AMD's cert_chain with --collateral",
        )
    return ((intermediate, root) for intermediate in issuers for root in roots)


def _trusted_roots(leaf: AmdCertificate, pool: EndorsementSet, anchors: TrustAnchors) -> list[AmdCertificate]:
    wanted = f"ARK-{leaf.product.value}"
    roots = [root for root in (*anchors.test_roots, *pool.roots) if root.product is leaf.product]
    if not roots:
        _raise_damage(pool)
        raise EndorsementMissing(
            f"endorsement: no root certificate {wanted}", hint="supply AMD's cert_chain with --collateral"
        )
    trusted = [root for root in roots if _pinned(root, anchors)]
    if not trusted:
        raise _foreign(wanted)
    return trusted


def _pinned(root: AmdCertificate, anchors: TrustAnchors) -> bool:
    try:
        return anchors.name_of(root) is not None
    except EvidenceMalformed:
        return False  # a key that does not load is nobody's


def _trusted_name(root: AmdCertificate, anchors: TrustAnchors) -> str:
    name = anchors.name_of(root)
    if name is None:
        raise VerificationFailed("root", f"certificate {root.subject_cn}: its key is not trusted")
    return name


def _raise_damage(pool: EndorsementSet) -> None:
    if pool.damaged:
        raise pool.damaged[0]
