"""Who looks at the pages: an operator or an auditor, told by the authority that issued their certificate, or by a
bearer token where the settings let those in.

TLS has verified the certificate in the handshake already. With ``plain`` and without tokens nobody is asked: the
listener is on a loopback address then, and requests must name it, so that a page from elsewhere cannot read it through
a name of its own (DNS rebinding).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from attest.audit.record import Actor
from attest.keys.client_crl import ClientAuthority
from attest.web.authorities import Authorities
from attest.web.oidc.caller import Bearers
from attest.web.principals import bearer_or, certificate_of

LOCAL = "local"
_LOOPBACK = ("127.0.0.1", "[::1]", "localhost")


@dataclass(frozen=True, slots=True)
class Visitor:
    """``role`` is ``operator``, ``auditor`` or ``local``; ``name`` the certificate's common name or that of the person.
    ``csrf``: the word that ends the session, where they came by the pages' own log-in.
    """

    role: str
    name: str = ""
    csrf: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Visitors:
    """Authorities by role, and whose tokens count; neither: anybody on this machine."""

    authorities: Authorities = field(default_factory=Authorities)
    bearers: Bearers | None = None

    @classmethod
    def anybody(cls, bearers: Bearers | None = None) -> Visitors:
        """On a loopback address, without TLS; with ``bearers`` only who shows a token."""
        return cls(bearers=bearers)

    @classmethod
    def of(
        cls, operators: ClientAuthority, auditors: ClientAuthority | None, bearers: Bearers | None = None
    ) -> Visitors:
        """By the authorities' files. Raises TlsMisconfigured, ClientCrlRefused."""
        return cls(Authorities.of(operators, auditors), bearers)

    @property
    def plain(self) -> bool:
        """Whether the pages are served without TLS."""
        return not self.authorities.known

    def admit(self, environ: Mapping[str, Any], now: datetime) -> Visitor | None:
        """Who this request is from; ``None`` for nobody we know. Raises BearerRefused,
        ProviderUnavailable, CertificateRevoked, ClientCrlEnded.
        """
        if self.plain and self.bearers is None:
            host = str(environ.get("HTTP_HOST", ""))
            return Visitor(LOCAL) if host.rsplit(":", 1)[0] in _LOOPBACK else None
        caller = self._certified if self.bearers is None else bearer_or(self._certified, self.bearers.actor)
        found = caller(environ, now)
        return None if found is None else Visitor(found.kind, found.name)

    def _certified(self, environ: Mapping[str, Any], now: datetime) -> Actor | None:
        der = certificate_of(environ)
        found = None if der is None else self.authorities.holder(der, now)
        return None if found is None else Actor(*found)
