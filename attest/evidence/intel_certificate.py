"""Certificates and revocation lists of Intel's provisioning certification PKI, parsed and unverified.

    Intel SGX Root CA
      Intel SGX PCK Platform CA, Intel SGX PCK Processor CA      sign PCK certificates and a CRL each
        Intel SGX PCK Certificate                                vouches for a quoting enclave
      Intel SGX TCB Signing                                      signs TCB info and QE identity

The role is what the common name *claims*; names prove nothing, the root is pinned by key in ``attest.endorsement``.
Source: Intel, *SGX PCK Certificate and Certificate Revocation List Profile Specification*, revision 1.5.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from functools import cached_property, lru_cache

from cryptography import x509
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID

from attest.evidence.der import content
from attest.evidence.errors import EvidenceMalformed, EvidenceUnsupported
from attest.evidence.p256 import P256Key, p256_key
from attest.evidence.sgx_extension import SGX_EXTENSION, SgxExtension, parse_sgx_extension
from attest.evidence.x509_reading import (
    MAX_CERTIFICATE,
    MAX_CRL,
    READ_ERRORS,
    check_size,
    first_line,
    read_frame,
)


class UnrelatedIntelCertificate(EvidenceUnsupported):
    """A certificate or CRL whose names belong to no place in Intel's PKI."""


class IntelRole(Enum):
    """The place a certificate claims by its common name; the value is that name."""

    ROOT = "Intel SGX Root CA"
    PLATFORM_CA = "Intel SGX PCK Platform CA"
    PROCESSOR_CA = "Intel SGX PCK Processor CA"
    PCK = "Intel SGX PCK Certificate"
    TCB_SIGNING = "Intel SGX TCB Signing"


PCK_AUTHORITIES = {IntelRole.PLATFORM_CA: "platform", IntelRole.PROCESSOR_CA: "processor"}
_ROLES = {role.value: role for role in IntelRole}
_COMMON_NAME = bytes.fromhex("0603550403")
_UTF8_STRING, _PRINTABLE_STRING = 0x0C, 0x13


def _first_name(role: IntelRole, tag: int) -> bytes:
    """How a name begins whose first part is the common name of ``role``."""
    text = role.value.encode("ascii")
    pair = _COMMON_NAME + bytes([tag, len(text)]) + text
    return bytes([0x31, len(pair) + 2, 0x30, len(pair)]) + pair


_FIRST_NAMES = {_first_name(role, tag): role for role in IntelRole for tag in (_UTF8_STRING, _PRINTABLE_STRING)}


@dataclass(frozen=True)
class IntelCertificate:
    """An unverified certificate. ``sgx`` is set for PCK certificates only. Dates are aware UTC.

    ``subject`` and ``issuer`` are DER Names; ``signature`` (DER) is the issuer's over ``signed_sha256``. ``usage`` has
    the names of the key usages that are set; ``path_length`` is ``None`` where there is none.
    """

    der: bytes = field(repr=False)
    sha256: bytes
    role: IntelRole
    subject: bytes = field(repr=False)
    issuer: bytes = field(repr=False)
    serial: int
    not_before: datetime
    not_after: datetime
    is_ca: bool
    path_length: int | None
    usage: frozenset[str]
    sgx: SgxExtension | None
    key: P256Key = field(repr=False, compare=False)
    signed_sha256: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    parsed: x509.Certificate = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """The common name."""
        return self.role.value

    def signed(self, other: IntelCertificate | IntelCrl) -> bool:
        """Whether the signature of ``other`` is by this key."""
        return self.key.verifies_der(other.signature, other.signed_sha256)

    def is_issuer_of(self, other: IntelCertificate | IntelCrl) -> bool:
        """Whether ``other`` names this as its issuer, in the same bytes: a CA's name is written alike wherever it is
        (RFC 5280, sections 4.1.2.6 and 5.1.2.3).
        """
        return other.issuer == self.subject

    @property
    def issuer_text(self) -> str:
        """The issuer's name for people (RFC 4514). Raises :class:`EvidenceMalformed`: nothing else reads it."""
        try:
            return self.parsed.issuer.rfc4514_string()
        except READ_ERRORS as exc:
            raise EvidenceMalformed(f"certificate {self.name}: issuer: {first_line(exc)}") from None

    @cached_property
    def spki_sha256(self) -> bytes:
        """SHA-256 of the DER SubjectPublicKeyInfo; asked of roots only, so not computed for every leaf."""
        return hashlib.sha256(self.key.spki).digest()

    @classmethod
    def parse(cls, der: bytes) -> IntelCertificate:
        """One DER certificate and nothing after it.

        Raises :class:`EvidenceMalformed`, also for any key that is not P-256, and :class:`UnrelatedIntelCertificate`
        for names that belong nowhere.
        """
        check_size(der, MAX_CERTIFICATE, "certificate")
        return parsed_certificate(bytes(der))


@lru_cache(maxsize=512)
def parsed_certificate(der: bytes) -> IntelCertificate:
    """Every quote brings the authority and the root again, so the last ones read are kept; at most 8 MB of them."""
    try:
        return _read(der, x509.load_der_x509_certificate(der))
    except READ_ERRORS as exc:
        raise EvidenceMalformed(f"certificate: {first_line(exc)}") from None


@dataclass(frozen=True, slots=True)
class IntelCrl:
    """An unverified revocation list; ``issuer_role`` is the root or a PCK authority, ``number`` its CRL number."""

    der: bytes = field(repr=False)
    sha256: bytes
    issuer_role: IntelRole
    issuer: bytes = field(repr=False)
    number: int
    this_update: datetime
    next_update: datetime
    signed_sha256: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    parsed: x509.CertificateRevocationList = field(repr=False, compare=False)

    def revokes(self, serial: int) -> bool:
        """Whether the list names this serial number; its entries, read as the list was parsed, are walked."""
        return self.parsed.get_revoked_certificate_by_serial_number(serial) is not None

    @classmethod
    def parse(cls, der: bytes) -> IntelCrl:
        """One DER CRL in the name of a CA of this PKI, with a number and a next update; else EvidenceMalformed."""
        check_size(der, MAX_CRL, "CRL")
        try:
            return _read_crl(bytes(der), x509.load_der_x509_crl(der))
        except READ_ERRORS as exc:
            raise EvidenceMalformed(f"CRL: {first_line(exc)}") from None


def _read(der: bytes, parsed: x509.Certificate) -> IntelCertificate:
    frame = read_frame(der, "certificate")
    _, issuer, _, subject, spki = frame.fields[:5]
    role = _role(subject, "certificate", parsed)
    if parsed.version is not x509.Version.v3:
        raise EvidenceMalformed(f"certificate {role.value}: {parsed.version}, want X.509 version 3")
    _check_algorithm(parsed, f"certificate {role.value}")
    if parsed.serial_number < 0:
        raise EvidenceMalformed(f"certificate {role.value}: its serial number is negative, which no list could name")
    try:
        key = p256_key(spki)
    except ValueError as exc:
        raise EvidenceMalformed(f"certificate {role.value}: key is not ECDSA P-256: {exc}") from None
    is_ca, path_length, usage, sgx = _extensions(parsed, role)
    if (sgx is not None) != (role is IntelRole.PCK):
        raise EvidenceMalformed(f"certificate {role.value}: an SGX extension belongs into PCK certificates, and there")
    return IntelCertificate(
        der=der,
        sha256=hashlib.sha256(der).digest(),
        role=role,
        subject=subject,
        issuer=issuer,
        serial=parsed.serial_number,
        not_before=parsed.not_valid_before_utc,
        not_after=parsed.not_valid_after_utc,
        is_ca=is_ca,
        path_length=path_length,
        usage=usage,
        sgx=sgx,
        key=key,
        signed_sha256=hashlib.sha256(frame.signed).digest(),
        signature=frame.signature,
        parsed=parsed,
    )


def _extensions(
    parsed: x509.Certificate, role: IntelRole
) -> tuple[bool, int | None, frozenset[str], SgxExtension | None]:
    """Constraints, which must be critical, and usage, which counts where it is; any other critical one is refused."""
    is_ca, path_length, usage, sgx = False, None, frozenset[str](), None
    for extension in parsed.extensions:
        value = extension.value
        if isinstance(value, x509.BasicConstraints):
            if not extension.critical:  # a leaf must not call itself a CA where nobody has to listen
                raise EvidenceMalformed(f"certificate {role.value}: its basic constraints are not critical")
            is_ca, path_length = value.ca, value.path_length
        elif isinstance(value, x509.KeyUsage) and extension.critical:
            usage = frozenset(name for name in _USAGES if getattr(value, name))
        elif extension.critical:
            raise EvidenceMalformed(
                f"certificate {role.value}: critical extension {extension.oid.dotted_string} is unknown"
            )
        elif extension.oid.dotted_string == SGX_EXTENSION and isinstance(value, x509.UnrecognizedExtension):
            sgx = parse_sgx_extension(value.value)
    return is_ca, path_length, usage, sgx


_USAGES = ("digital_signature", "content_commitment", "key_cert_sign", "crl_sign")


def _read_crl(der: bytes, parsed: x509.CertificateRevocationList) -> IntelCrl:
    frame = read_frame(der, "CRL")
    issuer = frame.fields[1]
    role = _role(issuer, "CRL", parsed)
    if role is not IntelRole.ROOT and role not in PCK_AUTHORITIES:
        raise EvidenceMalformed(f"CRL: issued by {role.value}, want a CA")
    _check_algorithm(parsed, f"CRL of {role.value}")
    number = None
    for extension in parsed.extensions:
        if isinstance(extension.value, x509.CRLNumber):
            number = extension.value.crl_number
        elif extension.critical:
            raise EvidenceMalformed("CRL: a critical extension limits its scope, want a complete list")
    if number is None or parsed.next_update_utc is None:
        raise EvidenceMalformed(f"CRL of {role.value}: no number or no next update")
    return IntelCrl(
        der, hashlib.sha256(der).digest(), role, issuer, number, parsed.last_update_utc, parsed.next_update_utc,
        hashlib.sha256(frame.signed).digest(), frame.signature, parsed,
    )  # fmt: skip


def _role(name: bytes, what: str, parsed: x509.Certificate | x509.CertificateRevocationList) -> IntelRole:
    """By the one common name of ``name``, which is the subject of ``parsed``, or the issuer of a list."""
    inside = content(name, what)
    first = _FIRST_NAMES.get(inside[: inside[1] + 2] if len(inside) > 1 else b"")
    # Intel's names begin with it, and hold the OID once: nothing else has to be read.
    return first if first is not None and inside.count(_COMMON_NAME) == 1 else _role_of(parsed, what)


def _role_of(parsed: x509.Certificate | x509.CertificateRevocationList, what: str) -> IntelRole:
    name = parsed.subject if isinstance(parsed, x509.Certificate) else parsed.issuer
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    text = found[0].value if len(found) == 1 else None
    if not isinstance(text, str) or text not in _ROLES:
        raise UnrelatedIntelCertificate(f"{what}: name {str(text)[:80]!r} belongs to no place in Intel's PKI")
    return _ROLES[text]


def _check_algorithm(parsed: x509.Certificate | x509.CertificateRevocationList, what: str) -> None:
    if parsed.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
        raise EvidenceMalformed(
            f"{what}: signed with {parsed.signature_algorithm_oid.dotted_string}, want ECDSA with SHA-256"
        )
