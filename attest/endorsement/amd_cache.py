"""What was verified about AMD's chains, remembered: links, lists, and whole walks with the time they hold for."""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

from attest.endorsement.amd_links import Chain, TrustedEndorsement, verify_authorities, verify_leaf
from attest.endorsement.anchors import AMD_AUTHORITIES, TrustAnchors
from attest.endorsement.crl import crl_signed_by
from attest.endorsement.p384 import KeyLoader, load_p384
from attest.evidence.amd_certificate import AmdCertificate, AmdCrl

_EVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
Given = tuple[TrustAnchors, tuple[AmdCertificate, ...], tuple[AmdCertificate, ...], tuple[AmdCrl, ...]]
"""What a walk looks at beside its leaf and the time: anchors, intermediates, roots, lists."""
_T = TypeVar("_T")


class _Walked(NamedTuple):
    """What came of a walk over what it was ``given``, and between which moments (both excluded) it is the same."""

    given: Given
    after: datetime
    before: datetime
    trusted: TrustedEndorsement


class ChainCache:
    """Chains whose signatures were verified, by the digests of their certificates, and which CRLs were; and the last
    walk from each leaf, with the time it holds for.

    Bounded; the oldest goes first. Safe to share between threads (each operation is one dictionary operation; the worst
    race is a repeated walk).
    """

    def __init__(self, *, limit: int = 4096, load_key: KeyLoader = load_p384) -> None:
        self._chains: OrderedDict[bytes, Chain] = OrderedDict()
        self._authorities: OrderedDict[bytes, None] = OrderedDict()
        self._crls: OrderedDict[bytes, bool] = OrderedDict()
        self._walks: OrderedDict[bytes, _Walked] = OrderedDict()
        self._limit = limit
        self._load_key = load_key

    def chain(self, leaf: AmdCertificate, intermediate: AmdCertificate, root: AmdCertificate) -> Chain:
        """The chain of these three certificates, verified now or before; its two CAs once for all chips below them.

        AMD's own pairs of CAs were verified before this program was released, see ``AMD_AUTHORITIES``.
        """
        pair = intermediate.sha256 + root.sha256
        digest = leaf.sha256 + pair
        chain = self._chains.get(digest)
        if chain is None:
            if pair not in AMD_AUTHORITIES and pair not in self._authorities:
                verify_authorities(intermediate, root)
                self._keep(self._authorities, pair, None)
            chain = self._keep(self._chains, digest, verify_leaf(leaf, intermediate, root, self._load_key))
        return chain

    def crl_signed(self, crl: AmdCrl, root: AmdCertificate) -> bool:
        """:func:`crl_signed_by`, remembered."""
        digest = crl.sha256 + root.sha256
        signed = self._crls.get(digest)
        return self._keep(self._crls, digest, crl_signed_by(crl, root)) if signed is None else signed

    def walked(self, leaf: AmdCertificate, given: Given, now: datetime) -> TrustedEndorsement | None:
        """What a walk found that would go the same way now."""
        walk = self._walks.get(leaf.sha256)
        return walk.trusted if walk and walk.after < now < walk.before and walk.given == given else None

    def keep_walk(self, leaf: AmdCertificate, given: Given, now: datetime, trusted: TrustedEndorsement) -> None:
        """Remember a walk until the next date in what it was given; at such a date itself nothing is remembered."""
        dates = _dates(leaf, given)
        if now not in dates:
            after = max((date for date in dates if date < now), default=_EVER[0])
            before = min((date for date in dates if date > now), default=_EVER[1])
            self._keep(self._walks, leaf.sha256, _Walked(given, after, before, trusted))

    def _keep(self, remembered: OrderedDict[bytes, _T], digest: bytes, value: _T) -> _T:
        remembered[digest] = value
        if len(remembered) > self._limit:
            remembered.popitem(last=False)
        return value


def _dates(leaf: AmdCertificate, given: Given) -> set[datetime]:
    """Everything a walk compares the time with."""
    anchors, intermediates, roots, crls = given
    certificates = (leaf, *intermediates, *roots, *anchors.test_roots)
    dates = {date for item in certificates for date in (item.not_before, item.not_after)}
    return dates | {date for crl in crls for date in (crl.this_update, crl.next_update) if date is not None}
