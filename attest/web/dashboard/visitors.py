"""Who looks at the pages: an operator or an auditor, told by the authority that issued their certificate.

TLS has verified the certificate in the handshake already. With ``plain`` nobody is asked: the listener is on a loopback
address then, and requests must name it, so that a page from elsewhere cannot read it through a name of its own (DNS
rebinding).
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attest.web.authorities import Authorities

LOCAL = "local"
_LOOPBACK = ("127.0.0.1", "[::1]", "localhost")


@dataclass(frozen=True, slots=True)
class Visitor:
    """``role`` is ``operator``, ``auditor`` or ``local``; ``name`` the certificate's common name."""

    role: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Visitors:
    """Authorities by role; none: anybody on this machine."""

    authorities: Authorities = field(default_factory=Authorities)

    @classmethod
    def anybody(cls) -> Visitors:
        """On a loopback address, without TLS."""
        return cls()

    @classmethod
    def of(cls, operator_ca: Path, auditor_ca: Path | None) -> Visitors:
        """By the authorities' files. Raises TlsMisconfigured."""
        return cls(Authorities.of(operator_ca, auditor_ca))

    @property
    def plain(self) -> bool:
        """Whether nobody is asked who they are."""
        return not self.authorities.known

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
        found = self.authorities.holder(der)
        return None if found is None else Visitor(*found)
