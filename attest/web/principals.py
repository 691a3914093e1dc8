"""Who is asking: nobody in particular, a guest with a session or token, an operator or auditor with a certificate.

Operators and auditors are known by the client certificate of the TLS connection and by nothing else: no header, no
cookie. The listener demands the certificate already in the handshake; here its issuer says which of the two they are,
its name and digest are read for the audit record, and its absence is refused once more.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from cryptography import x509

from attest.audit.record import Actor
from attest.web.authorities import AUDITOR, OPERATOR, Authorities, common_name

Environ = Mapping[str, Any]
CallerOf = Callable[[Environ], Actor | None]

SESSION_COOKIE = "kbs-session-id"
_SESSION = re.compile(r"[0-9a-f]{64}")
_BEARER = re.compile(r"[Bb]earer +([A-Za-z0-9_.-]+)")


class Who(Enum):
    """Who may use a route."""

    ANYONE = "anyone"
    SESSION = "a guest with a session cookie"
    GUEST = "a guest with a session cookie or a token"
    AUDITOR = "an auditor or operator with a client certificate"
    OPERATOR = "an operator with a client certificate"


def session_of(cookies: Mapping[str, str]) -> str | None:
    """The session id of the cookie, if it has the form of one."""
    value = cookies.get(SESSION_COOKIE, "")
    return value if _SESSION.fullmatch(value) else None


def token_of(header: str | None) -> str | None:
    """The token of an ``Authorization: Bearer`` header, if it has the form of one."""
    match = _BEARER.fullmatch((header or "").strip())
    return match[1] if match else None


def may(who: Who, actor: Actor | None) -> bool:
    """Whether a route for ``who`` serves the holder of a certificate; guests' routes ask for none."""
    kinds = {Who.OPERATOR: (OPERATOR,), Who.AUDITOR: (OPERATOR, AUDITOR)}.get(who)
    return kinds is None or (actor is not None and actor.kind in kinds)


def no_caller(environ: Environ) -> Actor | None:
    """On the guests' listener nobody is an operator or auditor, whatever certificate they show."""
    return None


def tls_caller(authorities: Authorities | None = None) -> CallerOf:
    """Who a connection is from, if TLS demanded, verified and got a client certificate.

    Without ``authorities`` the listener trusts that of operators alone, and whom it vouches for is one.
    """

    def caller(environ: Environ) -> Actor | None:
        connection = environ.get("gunicorn.socket")
        if not isinstance(connection, ssl.SSLSocket) or connection.context.verify_mode is not ssl.CERT_REQUIRED:
            return None
        der = connection.getpeercert(binary_form=True)
        return None if not der else actor_of(der, authorities)

    return caller


def actor_of(certificate: bytes, authorities: Authorities | None) -> Actor | None:
    """The actor a verified client certificate (DER) stands for: role, common name and SHA-256."""
    if authorities is None:
        name = common_name(x509.load_der_x509_certificate(certificate))
        found = None if name is None else (OPERATOR, name)
    else:
        found = authorities.holder(certificate)
    return None if found is None else Actor(*found, hashlib.sha256(certificate).hexdigest())
