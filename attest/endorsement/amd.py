"""AMD's chain, walked link by link: ARK (pinned) -> ASK -> VCEK, or ARK (pinned) -> ASVK -> VLEK.

Generic path builders refuse AMD's certificates (explicit PSS defaults, leaves without basicConstraints), so the walk is
our own, over ``cryptography``'s primitives. What it checks, always at this fixed depth:

    root          key pinned for the product; names ARK-<product>; CA; keyCertSign; path length none or >= 1;
                  self-signature
    intermediate  issued in the root's name; CN SEV-<product> (VCEK) or SEV-VLEK-<product> (VLEK); CA; keyCertSign;
                  path length 0; signed by the root
    leaf          X.509 version 3; issued in the intermediate's name; not a CA; key P-384; productName of no other
                  product line than the issuer's; signed by the intermediate
    validity      all three certificates at ``now``
    revocation    the intermediate, against the root's CRL where there is one

Between two dates that stand in certificates or lists nothing can change: a walk that succeeded is not repeated for the
same ones before the next such date.

Every signature is RSASSA-PSS, SHA-384, MGF1-SHA-384, salt 48, and the certificates must say so. Source: AMD 57230,
chapters 2 and 3; RFC 5280, section 6.1.

Deliberately not checked: organisation and locality names (the key decides), key identifiers (leaves have none), the
stepping in productName (some were issued with a wrong one), serial numbers (0 in every leaf).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509 import BasicConstraints, KeyUsage

from attest.endorsement.anchors import AMD_AUTHORITIES, TrustAnchors
from attest.endorsement.crl import PSS_SHA384_48, SHA384, crl_signed_by, revocation_status
from attest.endorsement.errors import EndorsementMissing, VerificationFailed
from attest.endorsement.p384 import KeyLoader, P384Key, load_p384
from attest.endorsement.pool import EndorsementSet
from attest.evidence.amd_certificate import AmdCertificate, AmdCrl, Role
from attest.evidence.errors import EvidenceMalformed
from policy.vocab import SnpProduct

_CA_NAME = {Role.ARK: "ARK-", Role.ASK: "SEV-", Role.ASVK: "SEV-VLEK-"}
_KNOWN_CRITICAL = (BasicConstraints, KeyUsage)
_MIN_RSA_BITS = 2048
_PRODUCT_LINES = frozenset(product.value for product in SnpProduct)
_EVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_Given = tuple[TrustAnchors, tuple[AmdCertificate, ...], tuple[AmdCertificate, ...], tuple[AmdCrl, ...]]
"""What a walk looks at beside its leaf and the time: anchors, intermediates, roots, lists."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Chain:
    """Three certificates whose links and constraints hold; dates and revocation are judged anew on each use."""

    leaf: AmdCertificate
    intermediate: AmdCertificate
    root: AmdCertificate
    key: P384Key = field(repr=False)


@dataclass(frozen=True, slots=True)
class TrustedEndorsement:
    """A leaf that a trusted root vouches for at the time of the walk.

    ``root_name`` is ``amd`` or ``test:…``; ``revocation`` is ``good``, ``stale`` or ``not-checked``.
    """

    chain: Chain
    root_name: str
    revocation: str

    @property
    def leaf(self) -> AmdCertificate:
        """The VCEK or VLEK."""
        return self.chain.leaf


class _Walked(NamedTuple):
    """What came of a walk over what it was ``given``, and between which moments (both excluded) it is the same."""

    given: _Given
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
            chain = self._keep(self._chains, digest, _verify_leaf(leaf, intermediate, root, self._load_key))
        return chain

    def crl_signed(self, crl: AmdCrl, root: AmdCertificate) -> bool:
        """:func:`crl_signed_by`, remembered."""
        digest = crl.sha256 + root.sha256
        signed = self._crls.get(digest)
        return self._keep(self._crls, digest, crl_signed_by(crl, root)) if signed is None else signed

    def walked(self, leaf: AmdCertificate, given: _Given, now: datetime) -> TrustedEndorsement | None:
        """What a walk found that would go the same way now."""
        walk = self._walks.get(leaf.sha256)
        return walk.trusted if walk and walk.after < now < walk.before and walk.given == given else None

    def keep_walk(self, leaf: AmdCertificate, given: _Given, now: datetime, trusted: TrustedEndorsement) -> None:
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


def _dates(leaf: AmdCertificate, given: _Given) -> set[datetime]:
    """Everything a walk compares the time with."""
    anchors, intermediates, roots, crls = given
    certificates = (leaf, *intermediates, *roots, *anchors.test_roots)
    dates = {date for item in certificates for date in (item.not_before, item.not_after)}
    return dates | {date for crl in crls for date in (crl.this_update, crl.next_update) if date is not None}


def _walk(
    leaf: AmdCertificate, pool: EndorsementSet, anchors: TrustAnchors, now: datetime, cache: ChainCache
) -> TrustedEndorsement:
    failures: list[VerificationFailed] = []
    for intermediate, root in _paths(leaf, pool, anchors):
        try:
            chain = cache.chain(leaf, intermediate, root)
            _check_dates(chain, now)
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
        prefix = _CA_NAME[Role.ASK if leaf.role is Role.VCEK else Role.ASVK]
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


def verify_authorities(intermediate: AmdCertificate, root: AmdCertificate) -> None:
    """Constraints and signatures of a root and an intermediate; raises :class:`VerificationFailed`.

    Whether the root's key is trusted, and dates, are not looked at here.
    """
    _check_ca(root, "root", path_lengths=None)
    _check_issued(root, root, "root")
    _check_ca(intermediate, "intermediate", path_lengths=(0,))
    _check_issued(intermediate, root, "intermediate")


def _verify_leaf(
    leaf: AmdCertificate, intermediate: AmdCertificate, root: AmdCertificate, load_key: KeyLoader
) -> Chain:
    _check_leaf(leaf)
    _check_issued(leaf, intermediate, "leaf")
    try:
        key = load_key(leaf.spki)
    except (ValueError, EvidenceMalformed) as exc:
        raise VerificationFailed("leaf", f"certificate {leaf.subject_cn}: {exc}") from None
    return Chain(leaf, intermediate, root, key)


def _check_ca(certificate: AmdCertificate, step: str, *, path_lengths: tuple[int, ...] | None) -> None:
    """CA, keyCertSign, both critical; ``path_lengths`` that are allowed, ``None`` for absent or at least 1."""
    name = certificate.subject_cn
    if name != _CA_NAME[certificate.role] + certificate.product.value:
        raise VerificationFailed(step, f"certificate {name}: not a name of AMD's chain")
    constraints = usage = None
    for extension in certificate.parsed.extensions:
        if isinstance(extension.value, BasicConstraints) and extension.critical:
            constraints = extension.value
        elif isinstance(extension.value, KeyUsage) and extension.critical:
            usage = extension.value
        elif extension.critical:
            raise VerificationFailed(step, f"certificate {name}: critical extension {extension.oid.dotted_string}")
    if constraints is None or not constraints.ca:
        raise VerificationFailed(step, f"certificate {name}: not a CA (critical basicConstraints)")
    if usage is None or not usage.key_cert_sign:
        raise VerificationFailed(step, f"certificate {name}: may not sign certificates (critical keyUsage)")
    length = constraints.path_length
    if not (length is None or length >= 1 if path_lengths is None else length in path_lengths):
        raise VerificationFailed(step, f"certificate {name}: path length {length} does not fit its place in the chain")


def _check_leaf(leaf: AmdCertificate) -> None:
    if leaf.parsed.version is not x509.Version.v3:
        raise VerificationFailed("leaf", f"certificate {leaf.subject_cn}: {leaf.parsed.version}, want X.509 version 3")
    for extension in leaf.parsed.extensions:
        value = extension.value
        if (isinstance(value, BasicConstraints) and value.ca) or (isinstance(value, KeyUsage) and value.key_cert_sign):
            raise VerificationFailed("leaf", f"certificate {leaf.subject_cn}: is a CA, want an end entity")
    _check_product_name(leaf)


def _check_product_name(leaf: AmdCertificate) -> None:
    """``Milan-B0`` in a VCEK, ``Milan`` in a VLEK; a name of no product known here says nothing against the issuer."""
    name = "" if leaf.amd is None else leaf.amd.product_name
    line, issuer = name.partition("-")[0], leaf.product.value
    if line != issuer and line in _PRODUCT_LINES:
        raise VerificationFailed(
            "leaf", f"certificate {leaf.subject_cn}: productName is {name!r}, issued by {leaf.issuer_cn}, want {issuer}"
        )


def _check_issued(certificate: AmdCertificate, issuer: AmdCertificate, step: str) -> None:
    """``certificate`` names ``issuer`` and carries its signature."""
    subject = certificate.subject_cn
    if certificate.parsed.issuer != issuer.parsed.subject:
        raise VerificationFailed(
            step, f"certificate {subject}: issued by {certificate.issuer_cn}, want {issuer.subject_cn}"
        )
    if not certificate.pss_sha384:
        raise VerificationFailed(step, f"certificate {subject}: signature algorithm is not RSASSA-PSS with SHA-384")
    try:
        key = issuer.parsed.public_key()
    except ValueError as exc:
        raise VerificationFailed(step, f"certificate {issuer.subject_cn}: public key: {exc}") from None
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < _MIN_RSA_BITS:
        raise VerificationFailed(
            step, f"certificate {issuer.subject_cn}: key is not RSA of {_MIN_RSA_BITS} bits or more"
        )
    try:
        key.verify(certificate.parsed.signature, certificate.signed, PSS_SHA384_48, SHA384)
    except InvalidSignature:
        raise VerificationFailed(
            step, f"certificate {subject}: the signature of {issuer.subject_cn} does not verify"
        ) from None


def _check_dates(chain: Chain, now: datetime) -> None:
    for certificate in (chain.root, chain.intermediate, chain.leaf):
        if not certificate.not_before <= now <= certificate.not_after:
            raise VerificationFailed(
                "validity",
                f"certificate {certificate.subject_cn}: valid {certificate.not_before:%Y-%m-%dT%H:%M:%SZ} to "
                f"{certificate.not_after:%Y-%m-%dT%H:%M:%SZ}, not at {now:%Y-%m-%dT%H:%M:%SZ}",
            )
