"""Who looks at the pages: an operator or an auditor, told by the authority that issued their certificate.

TLS has verified the certificate in the handshake already. With ``plain`` nobody is asked: the listener is on a loopback
address then, and requests must name it, so that a page from elsewhere cannot read it through a name of its own (DNS
rebinding).
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from attest.web.tls import TlsMisconfigured

OPERATOR, AUDITOR, LOCAL = "operator", "auditor", "local"
_LOOPBACK = ("127.0.0.1", "[::1]", "localhost")


@dataclass(frozen=True, slots=True)
class Visitor:
    """``role`` is ``operator``, ``auditor`` or ``local``; ``name`` the certificate's common name."""

    role: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Visitors:
    """Authorities by role; none: anybody on this machine."""

    authorities: tuple[tuple[str, x509.Certificate], ...] = ()

    @classmethod
    def anybody(cls) -> Visitors:
        """On a loopback address, without TLS."""
        return cls()

    @classmethod
    def of(cls, operator_ca: Path, auditor_ca: Path | None) -> Visitors:
        """By the authorities' files. Raises TlsMisconfigured."""
        files = [(OPERATOR, operator_ca), *([] if auditor_ca is None else [(AUDITOR, auditor_ca)])]
        return cls(tuple((role, found) for role, path in files for found in _certificates(path)))

    @property
    def plain(self) -> bool:
        """Whether nobody is asked who they are."""
        return not self.authorities

    def admit(self, environ: Mapping[str, Any]) -> Visitor | None:
        """Who this request is from; ``None`` for nobody we know."""
        if self.plain:
            host = str(environ.get("HTTP_HOST", ""))
            return Visitor(LOCAL) if host.rsplit(":", 1)[0] in _LOOPBACK else None
        connection = environ.get("gunicorn.socket")
        if not isinstance(connection, ssl.SSLSocket) or connection.context.verify_mode is not ssl.CERT_REQUIRED:
            return None
        der = connection.getpeercert(binary_form=True)
        return self.known(der) if der else None

    def known(self, der: bytes) -> Visitor | None:
        """The visitor of a client certificate (DER) that one of the authorities signed."""
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if len(names) != 1 or not isinstance(names[0].value, str):
            return None
        for role, authority in self.authorities:
            if _issued(certificate, authority):
                return Visitor(role, names[0].value[:200])
        return None


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
