"""Which authority issued a client certificate: that, and no name in the certificate, says what its holder may do.

A certificate must be issued by one of the authorities directly; what an authority's sub-authority issued is nobody's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from attest.web.tls import TlsMisconfigured

OPERATOR, AUDITOR = "operator", "auditor"


@dataclass(frozen=True, slots=True)
class Authorities:
    """Authorities' certificates, each with the role of those it vouches for."""

    known: tuple[tuple[str, x509.Certificate], ...] = ()

    @classmethod
    def of(cls, operator_ca: Path, auditor_ca: Path | None) -> Authorities:
        """By the authorities' files (PEM). Raises TlsMisconfigured."""
        files = [(OPERATOR, operator_ca), *([] if auditor_ca is None else [(AUDITOR, auditor_ca)])]
        return cls(tuple((role, found) for role, path in files for found in _certificates(path)))

    def apart(self) -> Authorities:
        """Itself. Raises TlsMisconfigured when one key vouches for both roles: who is who would be chance."""
        keys = {role: {_key(found) for own, found in self.known if own == role} for role in (OPERATOR, AUDITOR)}
        if keys[OPERATOR] & keys[AUDITOR]:
            raise TlsMisconfigured("TLS files operator_ca and auditor_ca: an authority of both, want one for each role")
        return self

    def holder(self, der: bytes) -> tuple[str, str] | None:
        """Role and common name (at most 200 characters) of a client certificate (DER) that TLS has verified."""
        certificate = x509.load_der_x509_certificate(der)
        name = common_name(certificate)
        if name is None:
            return None
        return next(((role, name) for role, authority in self.known if _issued(certificate, authority)), None)


def common_name(certificate: x509.Certificate) -> str | None:
    """The one common name of the subject, cut to 200 characters; ``None`` where there is not exactly one."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) != 1 or not isinstance(names[0].value, str):
        return None
    return names[0].value[:200]


def _key(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise TlsMisconfigured(f"TLS file {path}: {exc}") from None
