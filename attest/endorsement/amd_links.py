"""One chain of AMD's, link by link: what each certificate must be, and that its issuer signed it.

    root          names ARK-<product>; CA; keyCertSign; path length none or >= 1; self-signature
    intermediate  issued in the root's name; CN SEV-<product> (VCEK) or SEV-VLEK-<product> (VLEK); CA; keyCertSign;
                  path length 0; signed by the root
    leaf          X.509 version 3; issued in the intermediate's name; not a CA; key P-384; productName of no other
                  product line than the issuer's; signed by the intermediate
    validity      all three certificates at one moment

Every signature is RSASSA-PSS, SHA-384, MGF1-SHA-384, salt 48, and the certificates must say so. Which root is trusted
is the business of :mod:`attest.endorsement.amd`. Source: AMD 57230, chapters 2 and 3; RFC 5280, section 6.1.

Deliberately not checked: organisation and locality names (the key decides), key identifiers (leaves have none), the
stepping in productName (some were issued with a wrong one), serial numbers (0 in every leaf).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509 import BasicConstraints, KeyUsage

from attest.endorsement.crl import PSS_SHA384_48, SHA384
from attest.endorsement.errors import VerificationFailed
from attest.endorsement.p384 import KeyLoader, P384Key
from attest.evidence.amd_certificate import AmdCertificate, Role
from attest.evidence.errors import EvidenceMalformed
from policy.vocab import SnpProduct

CA_NAME = {Role.ARK: "ARK-", Role.ASK: "SEV-", Role.ASVK: "SEV-VLEK-"}
_MIN_RSA_BITS = 2048
_PRODUCT_LINES = frozenset(product.value for product in SnpProduct)


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


def verify_authorities(intermediate: AmdCertificate, root: AmdCertificate) -> None:
    """Constraints and signatures of a root and an intermediate; raises :class:`VerificationFailed`.

    Whether the root's key is trusted, and dates, are not looked at here.
    """
    _check_ca(root, "root", path_lengths=None)
    _check_issued(root, root, "root")
    _check_ca(intermediate, "intermediate", path_lengths=(0,))
    _check_issued(intermediate, root, "intermediate")


def verify_leaf(leaf: AmdCertificate, intermediate: AmdCertificate, root: AmdCertificate, load_key: KeyLoader) -> Chain:
    """The chain, its leaf's constraints, signature and key checked; raises :class:`VerificationFailed`."""
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
    if name != CA_NAME[certificate.role] + certificate.product.value:
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
    if certificate.issuer_name != issuer.subject_name:
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


def check_dates(chain: Chain, now: datetime) -> None:
    for certificate in (chain.root, chain.intermediate, chain.leaf):
        if not certificate.not_before <= now <= certificate.not_after:
            raise VerificationFailed(
                "validity",
                f"certificate {certificate.subject_cn}: valid {certificate.not_before:%Y-%m-%dT%H:%M:%SZ} to "
                f"{certificate.not_after:%Y-%m-%dT%H:%M:%SZ}, not at {now:%Y-%m-%dT%H:%M:%SZ}",
            )
