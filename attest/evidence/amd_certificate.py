"""One certificate or CRL of AMD's chain, parsed and unverified.

``cryptography`` reads X.509; this module turns its many exceptions into one, keeps the bytes, and says which role the
certificate *claims* by its names. Names prove nothing: roots are pinned by key in ``attest.endorsement``.

VCEK and VLEK carry serial number 0, which ``cryptography`` reads with a warning and has announced to refuse one day. A
certificate it refuses for that is read by a copy with serial number 1; what is signed stays the bytes as they came. The
tests hold a canary for that day.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID

from attest.evidence.amd_ext import ARC, AmdExtensions, parse_amd_extensions
from attest.evidence.errors import EvidenceMalformed, EvidenceUnsupported
from attest.evidence.x509_reading import (
    MAX_CERTIFICATE,
    MAX_CRL,
    READ_ERRORS,
    check_size,
    common_names,
    first_line,
    read_frame,
    with_serial_1,
)
from policy.snp import SigningKey
from policy.vocab import SnpProduct

# Every VCEK and VLEK has serial 0 by specification; warning about each of them helps nobody.
warnings.filterwarnings("ignore", message="Parsed a serial number which wasn't positive", category=UserWarning)


class UnrelatedCertificate(EvidenceUnsupported):
    """A certificate or CRL whose names belong to no AMD chain: another vendor's, or of a product not known here."""


class Role(Enum):
    """The place in the chain a certificate claims by its common name."""

    ARK = "ARK"
    ASK = "ASK"
    ASVK = "ASVK"
    VCEK = "VCEK"
    VLEK = "VLEK"


CHIP_ID_SIZE = 64
LEAF_KIND = {Role.VCEK: SigningKey.VCEK, Role.VLEK: SigningKey.VLEK}
_CA_PREFIX = ((Role.ARK, "ARK-"), (Role.ASVK, "SEV-VLEK-"), (Role.ASK, "SEV-"))
_LEAF_NAME = {"SEV-VCEK": Role.VCEK, "SEV-VLEK": Role.VLEK}
_PRODUCTS = {product.value: product for product in SnpProduct}


@dataclass(frozen=True)
class AmdCertificate:
    """An unverified certificate that claims ``role`` for ``product`` (a leaf's product is its issuer's).

    ``amd`` holds the private extensions of a leaf and is ``None`` for a CA. Dates are aware UTC. ``subject_name`` and
    ``issuer_name`` are DER; ``signed`` is the TBSCertificate as it came, which the issuer's signature covers.
    """

    der: bytes = field(repr=False)
    sha256: bytes
    role: Role
    product: SnpProduct
    issuer_cn: str
    not_before: datetime
    not_after: datetime
    amd: AmdExtensions | None
    subject_cn: str
    subject_name: bytes = field(repr=False)
    issuer_name: bytes = field(repr=False)
    signed: bytes = field(repr=False)
    parsed: x509.Certificate = field(repr=False, compare=False)

    @classmethod
    def parse(cls, der: bytes) -> AmdCertificate:
        """One DER certificate and nothing after it.

        Raises :class:`EvidenceMalformed` when it does not parse, :class:`UnrelatedCertificate` when its names belong to
        no place in AMD's chain.
        """
        check_size(der, MAX_CERTIFICATE, "certificate")
        try:
            certificate = cls._read(bytes(der), _load(bytes(der)))
        except READ_ERRORS as exc:
            raise EvidenceMalformed(f"certificate: {first_line(exc)}") from None
        if certificate.amd is not None:
            _ = certificate.spki  # a leaf is its key: refuse one that cannot be loaded
        return certificate

    @classmethod
    def _read(cls, der: bytes, certificate: x509.Certificate) -> AmdCertificate:
        frame = read_frame(der, "certificate")
        _, issuer_name, _, subject_name, *_ = frame.fields
        subject = _name_of(subject_name, lambda: certificate.subject)
        issuer = _name_of(issuer_name, lambda: certificate.issuer)
        role, product = _place(subject, issuer)
        values = _private_values(certificate)
        return cls(
            der=der,
            sha256=hashlib.sha256(der).digest(),
            role=role,
            product=product,
            issuer_cn=issuer,
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            amd=parse_amd_extensions(values, LEAF_KIND[role]) if role in LEAF_KIND else None,
            subject_cn=subject,
            subject_name=subject_name,
            issuer_name=issuer_name,
            signed=frame.signed,
            parsed=certificate,
        )

    @cached_property
    def spki(self) -> bytes:
        """SubjectPublicKeyInfo, DER. Raises :class:`EvidenceMalformed` for a key that cannot be loaded."""
        try:
            key = self.parsed.public_key()
        except READ_ERRORS as exc:
            raise EvidenceMalformed(f"certificate {self.subject_cn}: public key: {first_line(exc)}") from None
        return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @cached_property
    def spki_sha256(self) -> bytes:
        """SHA-256 of :attr:`spki`, by which roots are pinned."""
        return hashlib.sha256(self.spki).digest()

    @cached_property
    def kind(self) -> SigningKey | None:
        """What a leaf signs reports as; ``None`` for a CA."""
        return LEAF_KIND.get(self.role)

    @cached_property
    def reported_tcb(self) -> bytes | None:
        """REPORTED_TCB as it stands in the reports this leaf may sign; ``None`` for a CA."""
        return None if self.amd is None else self.amd.tcb.to_bytes()

    @cached_property
    def chip_id(self) -> bytes | None:
        """CHIP_ID of the reports this leaf may sign: a hwID shorter than 64 bytes (Turin) is padded with zeros there.
        ``None`` for a leaf that speaks for no chip.
        """
        return None if self.amd is None or self.amd.hwid is None else self.amd.hwid.ljust(CHIP_ID_SIZE, b"\0")

    @property
    def pss_sha384(self) -> bool:
        """Whether the certificate says it is signed with RSASSA-PSS and SHA-384."""
        return _is_pss_sha384(self.parsed)


@dataclass(frozen=True, slots=True)
class AmdCrl:
    """An unverified certificate revocation list; ``product`` is its issuer's, an ARK."""

    der: bytes = field(repr=False)
    sha256: bytes
    product: SnpProduct
    this_update: datetime
    next_update: datetime | None
    revoked: frozenset[int]
    parsed: x509.CertificateRevocationList = field(repr=False, compare=False)

    @classmethod
    def parse(cls, der: bytes) -> AmdCrl:
        """One DER CRL issued in the name of an ARK; raises :class:`EvidenceMalformed` otherwise."""
        check_size(der, MAX_CRL, "CRL")
        try:
            crl = x509.load_der_x509_crl(der)
            issuer = _common_name(crl.issuer)
            role, product = _place(issuer, issuer)
            if role is not Role.ARK:
                raise EvidenceMalformed(f"CRL: issued by {issuer!r}, want an ARK")
            read_frame(der, "CRL")
            if any(extension.critical for extension in crl.extensions):
                raise EvidenceMalformed("CRL: a critical extension limits its scope, want a complete list")
            return cls(
                bytes(der), hashlib.sha256(der).digest(), product, crl.last_update_utc, crl.next_update_utc,
                frozenset(entry.serial_number for entry in crl), crl,
            )  # fmt: skip
        except READ_ERRORS as exc:
            raise EvidenceMalformed(f"CRL: {first_line(exc)}") from None

    @property
    def pss_sha384(self) -> bool:
        """Whether the list says it is signed with RSASSA-PSS and SHA-384."""
        return _is_pss_sha384(self.parsed)


def _load(der: bytes) -> x509.Certificate:
    """Raises what ``cryptography`` raises."""
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError:
        numbered = with_serial_1(der, "certificate")
        if numbered is None:
            raise
    return x509.load_der_x509_certificate(numbered)


def _is_pss_sha384(signed: x509.Certificate | x509.CertificateRevocationList) -> bool:
    try:
        algorithm = signed.signature_hash_algorithm
    except READ_ERRORS:
        return False
    return signed.signature_algorithm_oid == SignatureAlgorithmOID.RSASSA_PSS and isinstance(algorithm, hashes.SHA384)


def _place(subject: str, issuer: str) -> tuple[Role, SnpProduct]:
    leaf = _LEAF_NAME.get(subject)
    for role, prefix in _CA_PREFIX:
        name = issuer if leaf else subject
        product = _PRODUCTS.get(name.removeprefix(prefix)) if name.startswith(prefix) else None
        if product is not None:
            return leaf or role, product
    raise UnrelatedCertificate(f"certificate: subject {subject!r} issued by {issuer!r} belongs to no known AMD chain")


def _name_of(der: bytes, read: Callable[[], x509.Name]) -> str:
    """The common name in a Name; the library makes objects of all attributes, and is asked for rare kinds only."""
    found = common_names(der, "certificate")
    return _common_name(read()) if found is None else _only(found)


def _common_name(name: x509.Name) -> str:
    return _only([attribute.value for attribute in name.get_attributes_for_oid(NameOID.COMMON_NAME)])


def _only(names: Sequence[str | bytes]) -> str:
    if len(names) != 1 or not isinstance(names[0], str):
        raise EvidenceMalformed(f"certificate: {len(names)} common names, want one")
    return names[0]


def _private_values(certificate: x509.Certificate) -> dict[str, bytes]:
    values = {}
    for extension in certificate.extensions:
        value = extension.value
        if isinstance(value, x509.UnrecognizedExtension):
            oid = extension.oid.dotted_string
            if oid.startswith(ARC + "."):
                values[oid] = value.value
            elif extension.critical:
                raise EvidenceMalformed(f"certificate: critical extension {oid} is unknown")
    return values
