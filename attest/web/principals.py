"""Who is asking: nobody in particular, a guest with a session or token, an operator or auditor.

Operators and auditors are known by the client certificate of the TLS connection, and, where the settings name an OpenID
provider, by a bearer token of it; by no other header and no cookie. Without a provider the listener demands the
certificate already in the handshake; with one it takes a certificate or none, and verifies what it takes. Here the
certificate's issuer says which of the two they are, its name and digest are read for the audit record, and the absence
of both is refused once more. Who shows both must choose: it has to be clear who acts.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum
from typing import Any

from cryptography import x509

from attest.audit.record import Actor
from attest.web.authorities import AUDITOR, OPERATOR, Authorities, common_name
from attest.web.oidc.errors import BearerMalformed, BearerRefused

Environ = Mapping[str, Any]
CallerOf = Callable[[Environ, datetime], Actor | None]
TokenActor = Callable[[str, datetime], Actor | None]
"""Who shows a bearer token; ``None`` for somebody without a role. Raises BearerRefused, ProviderUnavailable."""

SESSION_COOKIE = "kbs-session-id"
_SESSION = re.compile(r"[0-9a-f]{64}")
_BEARER = re.compile(r"[Bb]earer +([A-Za-z0-9_.-]+)")


class Who(Enum):
    """Who may use a route."""

    ANYONE = "anyone"
    SESSION = "a guest with a session cookie"
    GUEST = "a guest with a session cookie or a token"
    AUDITOR = "an auditor or operator"
    OPERATOR = "an operator"


def session_of(cookies: Mapping[str, str]) -> str | None:
    """The session id of the cookie, if it has the form of one."""
    value = cookies.get(SESSION_COOKIE, "")
    return value if _SESSION.fullmatch(value) else None


def token_of(header: str | None) -> str | None:
    """The token of an ``Authorization: Bearer`` header, if it has the form of one."""
    match = _BEARER.fullmatch((header or "").strip())
    return match[1] if match else None


def may(who: Who, actor: Actor | None) -> bool:
    """Whether a route for ``who`` serves ``actor``; guests' routes ask for none."""
    kinds = {Who.OPERATOR: (OPERATOR,), Who.AUDITOR: (OPERATOR, AUDITOR)}.get(who)
    return kinds is None or (actor is not None and actor.kind in kinds)


def sent_by_page(environ: Environ) -> bool:
    """Whether a page in a browser sends this request: it cannot leave out both headers, and programs send neither.

    A browser shows its client certificate to us whichever site's page asks, so a certificate alone does not say that
    its holder wants what is asked. Source: Fetch standard, "Origin header"; Fetch Metadata, "Sec-Fetch-Site".
    """
    return "HTTP_ORIGIN" in environ or "HTTP_SEC_FETCH_SITE" in environ


def no_caller(environ: Environ, now: datetime) -> Actor | None:
    """On the guests' listener nobody is an operator or auditor, whatever certificate they show."""
    return None


def tls_caller(authorities: Authorities | None = None) -> CallerOf:
    """Who a connection is from, if TLS asked for a client certificate, got one and verified it.

    Without ``authorities`` the listener trusts that of operators alone, and whom it vouches for is one.
    """

    def caller(environ: Environ, now: datetime) -> Actor | None:
        der = certificate_of(environ)
        return None if der is None else actor_of(der, authorities, now)

    return caller


def certificate_of(environ: Environ) -> bytes | None:
    """The client certificate (DER) of the connection, if TLS verified it."""
    connection = environ.get("gunicorn.socket")
    if not isinstance(connection, ssl.SSLSocket) or connection.context.verify_mode is ssl.CERT_NONE:
        return None
    return connection.getpeercert(binary_form=True) or None


def bearer_or(by_certificate: CallerOf, by_token: TokenActor) -> CallerOf:
    """Who shows a bearer token, or else who ``by_certificate`` finds."""

    def caller(environ: Environ, now: datetime) -> Actor | None:
        certified = by_certificate(environ, now)
        header = environ.get("HTTP_AUTHORIZATION")
        if header is None:
            return certified
        if certified is not None:
            raise BearerRefused("bearer: a client certificate was shown too, want one of them", code="bearer.two")
        token = token_of(header)
        if token is None:
            raise BearerMalformed("Authorization: want Bearer and a token")
        return by_token(token, now)

    return caller


def actor_of(certificate: bytes, authorities: Authorities | None, now: datetime) -> Actor | None:
    """The actor a verified client certificate (DER) stands for: role, common name and SHA-256.

    Raises CertificateRevoked, ClientCrlEnded.
    """
    if authorities is None:
        name = common_name(x509.load_der_x509_certificate(certificate))
        found = None if name is None else (OPERATOR, name)
    else:
        found = authorities.holder(certificate, now)
    return None if found is None else Actor(*found, hashlib.sha256(certificate).hexdigest())
