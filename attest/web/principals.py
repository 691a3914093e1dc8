"""Who is asking: nobody in particular, a guest with a session or token, or an operator with a certificate.

An operator is known by the client certificate of the TLS connection and by nothing else: no header, no cookie. The
listener demands the certificate already in the handshake; here its name and digest are read for the audit record, and
its absence is refused once more.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from attest.audit.record import Actor

Environ = Mapping[str, Any]
OperatorOf = Callable[[Environ], Actor | None]

SESSION_COOKIE = "kbs-session-id"
_SESSION = re.compile(r"[0-9a-f]{64}")
_BEARER = re.compile(r"[Bb]earer +([A-Za-z0-9_.-]+)")


class Who(Enum):
    """Who may use a route."""

    ANYONE = "anyone"
    SESSION = "a guest with a session cookie"
    GUEST = "a guest with a session cookie or a token"
    OPERATOR = "an operator with a client certificate"


def session_of(cookies: Mapping[str, str]) -> str | None:
    """The session id of the cookie, if it has the form of one."""
    value = cookies.get(SESSION_COOKIE, "")
    return value if _SESSION.fullmatch(value) else None


def token_of(header: str | None) -> str | None:
    """The token of an ``Authorization: Bearer`` header, if it has the form of one."""
    match = _BEARER.fullmatch((header or "").strip())
    return match[1] if match else None


def no_operator(environ: Environ) -> Actor | None:
    """On the guests' listener nobody is an operator, whatever certificate they show."""
    return None


def tls_operator(environ: Environ) -> Actor | None:
    """The operator of this connection, if TLS demanded, verified and got a client certificate."""
    connection = environ.get("gunicorn.socket")
    if not isinstance(connection, ssl.SSLSocket) or connection.context.verify_mode is not ssl.CERT_REQUIRED:
        return None
    der = connection.getpeercert(binary_form=True)
    return None if not der else operator_actor(der)


def operator_actor(certificate: bytes) -> Actor | None:
    """The actor a verified client certificate (DER) stands for: its common name and SHA-256."""
    names = x509.load_der_x509_certificate(certificate).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) != 1 or not isinstance(names[0].value, str):
        return None
    return Actor("operator", names[0].value[:200], hashlib.sha256(certificate).hexdigest())
