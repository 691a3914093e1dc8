"""What anybody may ask the attestation service (the keys of its tokens, which tokens are revoked), and what a host
tells it: its signed statements about launches. HTTPS, pinned CA.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from http.client import HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from launcher.io.key_service import ServiceRefused, ServiceUnavailable, problem_detail
from policy.strictjson import strict_json

JWKS, REVOKED, LAUNCHES = "/.well-known/jwks.json", "/cvm/v0/revoked-tokens", "/cvm/v0/launches"
_MAX = 1 << 20
_TIMEOUT = 30.0
_REGISTER = "`cvm ledger --host-key` here, `attest host add NAME KEY.pem` there"


def fetch(url: str, ca_der: bytes, path: str) -> object:
    """The JSON document at ``path``. Raises ServiceUnavailable, ServiceRefused."""
    status, body = _exchange(url, ca_der, ("GET", path, None), _TIMEOUT)
    if status != 200:
        raise ServiceUnavailable(f"service {url}: {path}: {status}")
    return strict_json(body, f"service {url}: {path}", max_bytes=_MAX)


def tell_launch(url: str, ca_der: bytes, envelope: Mapping[str, object], seconds: float) -> int:
    """Send a signed statement; the number of its record in the service's audit log.

    ``seconds`` bound each wait for the other side. Raises ServiceUnavailable, ServiceRefused.
    """
    sent = json.dumps(envelope).encode("ascii")
    status, body = _exchange(url, ca_der, ("POST", LAUNCHES, sent), seconds)
    said = f"service {url}: {LAUNCHES}: {status}"
    if status == 429 or status >= 500:
        raise ServiceUnavailable(f"{said}: {problem_detail(body)}")
    if status == 403:
        raise ServiceRefused(f"{said}: {problem_detail(body)}", code="service.host-refused", hint=_REGISTER)
    if status != 200:
        raise ServiceRefused(f"{said}: {problem_detail(body)}", code="service.launch-refused")
    answer = strict_json(body, said, max_bytes=_MAX)
    record = answer.get("record") if isinstance(answer, dict) else None
    if not isinstance(record, int) or isinstance(record, bool) or record < 1:
        raise ServiceRefused(f"{said}: record: got {str(record)[:40]!r}, want a number from 1", code="service.answer")
    return record


def _exchange(url: str, ca_der: bytes, request: tuple[str, str, bytes | None], seconds: float) -> tuple[int, bytes]:
    """Status and body (cut at one byte more than is ever taken) of one request: method, path, body."""
    parts = urlsplit(url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=ca_der)
    except (ssl.SSLError, ValueError):
        raise ServiceRefused("attestation.ca: not a certificate TLS accepts", code="service.tls-files") from None
    connection = HTTPSConnection(parts.hostname or "", parts.port or 443, timeout=seconds, context=context)
    method, path, sent = request
    try:
        headers = {"Accept": "application/json"} | ({} if sent is None else {"Content-Type": "application/json"})
        connection.request(method, path, sent, headers)
        answer = connection.getresponse()
        return answer.status, answer.read(_MAX + 1)
    except ssl.SSLCertVerificationError as exc:
        said = f"service {url}: its certificate is not accepted: {exc.verify_message}"
        raise ServiceRefused(said, code="service.untrusted") from None
    except (OSError, HTTPException) as exc:
        raise ServiceUnavailable(f"service {url}: {str(exc) or type(exc).__name__}") from None
    finally:
        connection.close()
