"""Which authority issued a client certificate: that, and no name in the certificate, says what its holder may do.

A certificate must be issued by one of the authorities directly; what an authority's sub-authority issued is nobody's.
Where the settings name revocation lists, one that its authority took back is refused at its next request, on
connections that are open already too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from attest.keys.client_crl import ClientAuthority, ClientCrls, client_crls_of, public_der
from attest.web.tls import TlsMisconfigured

OPERATOR, AUDITOR = "operator", "auditor"


@dataclass(frozen=True, slots=True)
class Authorities:
    """Authorities' certificates, each with the role of those it vouches for, and what they took back."""

    known: tuple[tuple[str, x509.Certificate], ...] = ()
    crls: ClientCrls = field(default_factory=ClientCrls)

    @classmethod
    def of(cls, operators: ClientAuthority, auditors: ClientAuthority | None) -> Authorities:
        """By the authorities' files (PEM) and lists. Raises TlsMisconfigured, ClientCrlRefused."""
        roles = [(role, one) for role, one in ((OPERATOR, operators), (AUDITOR, auditors)) if one is not None]
        known = tuple((role, found) for role, one in roles for found in _certificates(one.ca))
        return cls(known, ClientCrls(tuple(crl for _, one in roles for crl in client_crls_of(one))))

    def apart(self) -> Authorities:
        """Itself. Raises TlsMisconfigured when one key vouches for both roles: who is who would be chance."""
        keys = {role: {public_der(found) for own, found in self.known if own == role} for role in (OPERATOR, AUDITOR)}
        if keys[OPERATOR] & keys[AUDITOR]:
            raise TlsMisconfigured("TLS files operator_ca and auditor_ca: an authority of both, want one for each role")
        return self

    def holder(self, der: bytes, now: datetime) -> tuple[str, str] | None:
        """Role and common name (at most 200 characters) of a client certificate (DER) that TLS has verified.

        Raises CertificateRevoked, ClientCrlEnded.
        """
        certificate = x509.load_der_x509_certificate(der)
        name = common_name(certificate)
        if name is None:
            return None
        for role, authority in self.known:
            if _issued(certificate, authority):
                self.crls.check(certificate, public_der(authority), now)
                return role, name
        return None


def common_name(certificate: x509.Certificate) -> str | None:
    """The one common name of the subject, cut to 200 characters; ``None`` where there is not exactly one."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) != 1 or not isinstance(names[0].value, str):
        return None
    return names[0].value[:200]


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
