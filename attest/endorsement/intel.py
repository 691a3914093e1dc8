"""Intel's chains: root, CA, PCK or TCB signer. Own strict walk on the primitives of ``cryptography``.

    root          its key is pinned (by SPKI, so that Intel's two certificates of one key both serve) and signed itself
    intermediate  a PCK authority of the root: CA, path length 0, signs certificates
    leaf          a PCK certificate of an authority, or the TCB signer of the root: no CA, signs; the *role* must fit,
                  or any machine's PCK key could sign TCB info, since all chains end in the same root
    validity      all of them at `now`
    revocation    leaf and intermediate against the lists of their issuers; none, or none current, is a claim

Signatures between certificates are remembered by digest; dates, trust and revocation are judged on every use. Source:
Intel, *SGX PCK Certificate and Certificate Revocation List Profile Specification*, revision 1.5; RFC 5280, section 6.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple, TypeVar

from attest.endorsement.crl import GOOD, NOT_CHECKED, STALE
from attest.endorsement.errors import EndorsementMissing, VerificationFailed
from attest.endorsement.intel_pool import IntelCollateral
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.intel_certificate import PCK_AUTHORITIES, IntelCertificate, IntelCrl, IntelRole
from attest.evidence.p256 import SPKI_HEADER, p256_key
from policy.claims import INTEL_ROOT

INTEL_ROOT_KEY = bytes.fromhex("a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e")
"""SHA-256 of the SubjectPublicKeyInfo of the Intel SGX Root CA."""
INTEL_ROOT_SPKI = SPKI_HEADER + bytes.fromhex(
    "0ba9c4c0c0c86193a3fe23d6b02cda10a8bbd4e88e48b4458561a36e705525f5"
    "67918e2edc88e40d860bd0cc4ee26aacc988e505a953558c453f6b0904ae7394"
)
"""The same key whole: the root's list comes without a certificate."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class IntelAnchors:
    """Trusted root keys (SHA-256 of SPKI) and the name claims report them by: ``intel`` or ``test:<that digest>``.

    ``test_roots`` are certificates a person named for a test PKI; what they vouch for is emulated.
    """

    keys: Mapping[bytes, str]
    test_roots: tuple[IntelCertificate, ...] = field(default=())

    @classmethod
    def intel(cls) -> IntelAnchors:
        """Intel's root and no other."""
        return cls({INTEL_ROOT_KEY: INTEL_ROOT})

    @classmethod
    def test_only(cls, *roots: bytes) -> IntelAnchors:
        """Test roots (DER) and not Intel's."""
        anchors = cls({})
        for root in roots:
            anchors = anchors.with_test_root(root)
        return anchors

    def with_test_root(self, der: bytes) -> IntelAnchors:
        """Also trust this root certificate; naming Intel's own changes nothing. Raises :class:`EvidenceMalformed`."""
        root = IntelCertificate.parse(der)
        if root.role is not IntelRole.ROOT:
            raise EvidenceMalformed(f"test root: subject is {root.name!r}, want {IntelRole.ROOT.value!r}")
        name = INTEL_ROOT if root.spki_sha256 == INTEL_ROOT_KEY else f"test:{root.spki_sha256.hex()}"
        return IntelAnchors({**self.keys, root.spki_sha256: name}, (*self.test_roots, root))

    def name_of(self, root: IntelCertificate) -> str | None:
        """``intel``, ``test:…``, or ``None`` for a key that is not trusted."""
        return self.keys.get(root.spki_sha256)


@dataclass(frozen=True, slots=True)
class IntelChain:
    """A leaf with the certificates above it, leaf first, root last; their signatures verified."""

    certificates: tuple[IntelCertificate, ...]
    root_name: str

    @property
    def leaf(self) -> IntelCertificate:
        """The PCK certificate or the TCB signer."""
        return self.certificates[0]

    @property
    def root(self) -> IntelCertificate:
        """The root."""
        return self.certificates[-1]


class IntelCache:
    """What was verified before, by digest: links between certificates, lists, signed JSON, and a caller's own things.

    Holds no judgement about time, trust or revocation. Bounded, the oldest goes first; safe between threads.
    """

    def __init__(self, limit: int = 4096) -> None:
        self._known: OrderedDict[bytes, object] = OrderedDict()
        self._limit = limit

    def get(self, key: bytes) -> object | None:
        """What :meth:`keep` was given."""
        return self._known.get(key)

    def keep(self, key: bytes, value: _T) -> _T:
        """Remember; returns ``value``."""
        self._known[key] = value
        if len(self._known) > self._limit:
            self._known.popitem(last=False)
        return value

    def signed_by(self, data: bytes, digest: bytes, signature: bytes, signer: IntelCertificate) -> bool:
        """Whether ``signature`` (64 bytes r || s) over ``data`` is ``signer``'s; ``digest`` stands for both."""
        key = b"json" + digest + signer.sha256
        known = self.get(key)
        if known is None:
            known = self.keep(key, signer.key.verifies(signature, hashlib.sha256(data).digest()))
        return bool(known)


def pck_chain(certificates: Iterable[IntelCertificate], anchors: IntelAnchors, cache: IntelCache) -> IntelChain:
    """The chain of a quote's own three certificates, in whatever order they came.

    Exactly a PCK certificate, one authority and a root: a chain that leaves one out would be completed by somebody
    else's, and of a fourth nobody knows what it is for. Raises :class:`VerificationFailed`.
    """
    found = list(certificates)
    leaves = [item for item in found if item.role is IntelRole.PCK]
    authorities = [item for item in found if item.role in PCK_AUTHORITIES]
    roots = [item for item in found if item.role is IntelRole.ROOT]
    if (len(leaves), len(authorities), len(roots), len(found)) != (1, 1, 1, 3):
        names = ", ".join(item.name for item in found) or "none"
        raise VerificationFailed("leaf", f"quote: certificates {names}; want a PCK certificate, its CA and the root")
    return _chain((leaves[0], authorities[0], roots[0]), anchors, cache)


def tcb_signing_chains(pool: IntelCollateral, anchors: IntelAnchors, cache: IntelCache) -> list[IntelChain]:
    """The chains of the TCB signers at hand that hold under a trusted root. Raises EndorsementMissing or the failure.

    A root that is named but not supplied is taken from the anchors' test roots.
    """
    signers = pool.by_role(IntelRole.TCB_SIGNING)
    roots = {root.sha256: root for root in (*anchors.test_roots, *pool.by_role(IntelRole.ROOT))}
    if not signers or not roots:
        what = IntelRole.TCB_SIGNING.value if not signers else IntelRole.ROOT.value
        raise EndorsementMissing(
            f"endorsement: no certificate {what}", hint="supply Intel's issuer chain with --collateral"
        )
    chains, failures = [], []
    for signer in signers:
        for root in roots.values():
            try:
                chains.append(_chain((signer, root), anchors, cache))
            except VerificationFailed as exc:
                failures.append(exc)
    if not chains:
        raise max(failures, key=lambda failure: failure.number)
    return chains


def check_dates(chain: IntelChain, now: datetime) -> None:
    """Every certificate at ``now``. Raises :class:`VerificationFailed` (step ``validity``)."""
    for certificate in chain.certificates:
        if not certificate.not_before <= now <= certificate.not_after:
            raise VerificationFailed(
                "validity",
                f"certificate {certificate.name}: valid {certificate.not_before:%Y-%m-%dT%H:%M:%SZ} to "
                f"{certificate.not_after:%Y-%m-%dT%H:%M:%SZ}, not at {now:%Y-%m-%dT%H:%M:%SZ}",
            )


@dataclass(frozen=True, slots=True)
class Revocation:
    """What the lists say: the worst state of all, and the lists that said so by their issuer's role."""

    state: str
    lists: Mapping[IntelRole, IntelCrl]


def revocation(chain: IntelChain, crls: Iterable[IntelCrl], now: datetime, cache: IntelCache) -> Revocation:
    """Each certificate below the root against its issuer's lists.

    The newest list that the issuer signed and that was issued not after ``now`` decides: ``good``, or ``stale`` past
    its next update; without one ``not-checked``. Lists that do not verify are passed over, as if they had not been
    sent. Any verified list that names a certificate revokes it, stale or not: VerificationFailed (``revocation``).
    """
    states, lists = [], {}
    known = [crl for crl in crls if crl.this_update <= now]
    for certificate, issuer in pairwise(chain.certificates):
        newest = _judge(certificate, issuer, known, cache)
        if newest is None:
            states.append(NOT_CHECKED)
            continue
        states.append(STALE if newest.next_update < now else GOOD)
        lists[issuer.role] = newest
    worst = next(state for state in (NOT_CHECKED, STALE, GOOD) if state in states)
    return Revocation(worst, lists)


class ListSigner(NamedTuple):
    """Who signed a list: the name of the trusted root, and the certificates that prove it (none for Intel's root)."""

    root_name: str
    certificates: tuple[IntelCertificate, ...]


def list_signer(crl: IntelCrl, certificates: Iterable[IntelCertificate], anchors: IntelAnchors) -> ListSigner | None:
    """The CA among ``certificates`` that signed ``crl`` and whose root is trusted; ``None`` without one. No dates."""
    found = [*anchors.test_roots, *certificates]
    if crl.issuer_role is IntelRole.ROOT and INTEL_ROOT_KEY in anchors.keys and _signed_by_intels_root(crl):
        return ListSigner(anchors.keys[INTEL_ROOT_KEY], ())
    roots = [item for item in found if item.role is IntelRole.ROOT and anchors.name_of(item) is not None]
    for root in roots:
        for issuer in [root] if crl.issuer_role is IntelRole.ROOT else found:
            above = (root,) if issuer is root else (issuer, root)
            fits = issuer.role is crl.issuer_role and issuer.is_issuer_of(crl)
            if fits and _vouched(above) and _list_signed(crl, issuer, IntelCache()):
                return ListSigner(anchors.keys[root.spki_sha256], above)
    return None


def _signed_by_intels_root(crl: IntelCrl) -> bool:
    return p256_key(INTEL_ROOT_SPKI).verifies_der(crl.signature, crl.signed_sha256)


def _vouched(chain: tuple[IntelCertificate, ...]) -> bool:
    """Whether a root, or an authority and its root, are what they say."""
    try:
        _verify_authorities(chain, IntelCache())
    except VerificationFailed:
        return False
    return True


def _judge(
    certificate: IntelCertificate, issuer: IntelCertificate, crls: list[IntelCrl], cache: IntelCache
) -> IntelCrl | None:
    newest: IntelCrl | None = None
    for crl in crls:
        if issuer.role is not crl.issuer_role or not issuer.is_issuer_of(crl):
            continue
        older = newest is not None and (crl.this_update, crl.number) <= (newest.this_update, newest.number)
        named = crl.revokes(certificate.serial)
        if (older and not named) or not _list_signed(crl, issuer, cache):
            continue
        if named:
            raise VerificationFailed(
                "revocation",
                f"certificate {certificate.name} serial 0x{certificate.serial:x}: revoked by the list of {issuer.name} "
                f"issued {crl.this_update:%Y-%m-%d}",
            )
        newest = crl
    return newest


def _list_signed(crl: IntelCrl, issuer: IntelCertificate, cache: IntelCache) -> bool:
    key = b"crl " + crl.sha256 + issuer.sha256
    known = cache.get(key)
    if known is None:
        known = cache.keep(key, "crl_sign" in issuer.usage and issuer.signed(crl))
    return bool(known)


def _chain(certificates: tuple[IntelCertificate, ...], anchors: IntelAnchors, cache: IntelCache) -> IntelChain:
    root = certificates[-1]
    name = anchors.name_of(root)
    if name is None:
        raise VerificationFailed(
            "root", f"certificate {root.name}: its key {root.spki_sha256.hex()} is not Intel's, no test root names it",
            hint="a root of the same name with another key: pre-production hardware, an emulated chip, or a forgery",
        )  # fmt: skip
    key = b"chain" + hashlib.sha256(b"".join(item.sha256 for item in certificates)).digest()
    if cache.get(key) is None:
        _verify(certificates, cache)
        cache.keep(key, True)
    return IntelChain(certificates, name)


def _verify(certificates: tuple[IntelCertificate, ...], cache: IntelCache) -> None:
    _verify_authorities(certificates[1:], cache)
    leaf, issuer = certificates[0], certificates[1]
    if leaf.is_ca or "digital_signature" not in leaf.usage or "key_cert_sign" in leaf.usage:
        raise VerificationFailed("leaf", f"certificate {leaf.name}: is a CA or may not sign, want a signing end entity")
    if leaf.sgx is not None and (leaf.sgx.piid is not None) != (issuer.role is IntelRole.PLATFORM_CA):
        raise VerificationFailed("leaf", f"certificate {leaf.name}: its SGX extension does not fit {issuer.name}")
    _check_issued(leaf, issuer, "leaf", cache)


def _verify_authorities(certificates: tuple[IntelCertificate, ...], cache: IntelCache) -> None:
    """A root, last, and the authorities directly below it."""
    root = certificates[-1]
    _check_authority(root, "root")
    _check_issued(root, root, "root", cache)
    for authority in certificates[:-1]:
        _check_authority(authority, "intermediate")
        if authority.path_length != 0:
            raise VerificationFailed("intermediate", f"certificate {authority.name}: path length is not 0")
        _check_issued(authority, root, "intermediate", cache)


def _check_authority(certificate: IntelCertificate, step: str) -> None:
    if not certificate.is_ca or "key_cert_sign" not in certificate.usage:
        raise VerificationFailed(step, f"certificate {certificate.name}: not a CA that may sign certificates")


def _check_issued(certificate: IntelCertificate, issuer: IntelCertificate, step: str, cache: IntelCache) -> None:
    """Name and signature; a link that held once, as the root's to itself does in every chain, holds."""
    if not issuer.is_issuer_of(certificate):
        raise VerificationFailed(step, f"certificate {certificate.name}: is not issued by the {issuer.name} supplied")
    key = b"link" + certificate.sha256 + issuer.sha256
    if cache.get(key) is not None:
        return
    if not issuer.signed(certificate):
        what = f"certificate {certificate.name}"
        raise VerificationFailed(step, f"{what}: the signature of {issuer.name} does not verify")
    cache.keep(key, True)
