"""What anybody may ask the attestation service: the keys of its tokens, which tokens are revoked. HTTPS, pinned CA."""

from __future__ import annotations

import ssl
from http.client import HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from launcher.io.key_service import ServiceRefused, ServiceUnavailable
from policy.strictjson import strict_json

JWKS, REVOKED = "/.well-known/jwks.json", "/cvm/v0/revoked-tokens"
_MAX = 1 << 20
_TIMEOUT = 30.0


def fetch(url: str, ca_der: bytes, path: str) -> object:
    """The JSON document at ``path``. Raises ServiceUnavailable, ServiceRefused."""
    parts = urlsplit(url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=ca_der)
    except (ssl.SSLError, ValueError):
        raise ServiceRefused("attestation.ca: not a certificate TLS accepts", code="service.tls-files") from None
    connection = HTTPSConnection(parts.hostname or "", parts.port or 443, timeout=_TIMEOUT, context=context)
    try:
        connection.request("GET", path, headers={"Accept": "application/json"})
        answer = connection.getresponse()
        body = answer.read(_MAX + 1)
    except ssl.SSLCertVerificationError as exc:
        said = f"service {url}: its certificate is not accepted: {exc.verify_message}"
        raise ServiceRefused(said, code="service.untrusted") from None
    except (OSError, HTTPException) as exc:
        raise ServiceUnavailable(f"service {url}: {str(exc) or type(exc).__name__}") from None
    finally:
        connection.close()
    if answer.status != 200:
        raise ServiceUnavailable(f"service {url}: {path}: {answer.status}")
    return strict_json(body, f"service {url}: {path}", max_bytes=_MAX)
