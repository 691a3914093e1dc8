"""HTTPS to one service whose CA was measured. Plain HTTP does not exist here, nor do redirects, proxies or system
CAs.
"""

from __future__ import annotations

import http.client
import re
import ssl
from typing import NamedTuple, Protocol

from attest.attester.cmdline import ServiceAddress
from attest.attester.errors import CommandLineMalformed, ServiceMalformed, ServiceUnavailable, ServiceUntrusted

# The real clients wait 60 s: the service may have to fetch endorsements from AMD while the guest waits.
TIMEOUT_SECONDS = 60.0
MAX_BODY = 256 * 1024
USER_AGENT = "cvm-attester/1"
_COOKIE = re.compile(r"(kbs-session-id=[A-Za-z0-9._~+/=-]{1,256})(?:;.*)?")


class Answer(NamedTuple):
    """Status, body, and the session cookie (``name=value``) when one was set."""

    status: int
    body: bytes
    cookie: str | None


class Transport(Protocol):
    """One request, one answer; raises ServiceUnavailable, ServiceUntrusted or ServiceMalformed."""

    def send(self, method: str, path: str, body: bytes | None, cookie: str | None) -> Answer:
        """Send and wait for the whole answer."""


def pinned_context(ca_der: bytes) -> ssl.SSLContext:
    """TLS 1.2 or later, certificate and host name checked, ``ca_der`` the only trust anchor.

    The anchor may be a root, an intermediate or the server's own certificate: whichever was measured is what is
    trusted.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=ca_der)
    except (ssl.SSLError, ValueError):
        raise CommandLineMalformed(f"cvm.ca: {len(ca_der)} bytes are not a DER certificate that TLS accepts") from None
    return context


class HttpsTransport:
    """Keeps one connection and opens a new one when the server closed it."""

    def __init__(self, address: ServiceAddress, context: ssl.SSLContext, *, timeout: float = TIMEOUT_SECONDS) -> None:
        self._where = f"https://{address.host}:{address.port}"
        self._connection = http.client.HTTPSConnection(address.host, address.port, context=context, timeout=timeout)

    def send(self, method: str, path: str, body: bytes | None, cookie: str | None) -> Answer:
        """See :class:`Transport`."""
        try:
            return self._exchange(method, path, body, cookie)
        except ssl.SSLEOFError:
            raise self._unavailable("closed the connection during TLS") from None
        except ssl.SSLCertVerificationError as exc:
            raise self._untrusted(exc.verify_message) from None
        except ssl.SSLError as exc:
            raise self._untrusted(exc.reason or "TLS failed") from None
        except OSError as exc:
            raise self._unavailable(exc.strerror or type(exc).__name__) from None
        except http.client.HTTPException as exc:
            self._connection.close()
            raise ServiceMalformed(f"{self._where}: not HTTP: {type(exc).__name__}") from None

    def _exchange(self, method: str, path: str, body: bytes | None, cookie: str | None) -> Answer:
        headers = {"User-Agent": USER_AGENT, "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if cookie is not None:
            headers["Cookie"] = cookie
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        data = response.read(MAX_BODY + 1)
        if len(data) > MAX_BODY:
            self._connection.close()
            raise ServiceMalformed(f"{self._where}{path}: answer longer than {MAX_BODY} bytes")
        return Answer(response.status, data, _session_cookie(response.headers.get_all("Set-Cookie") or []))

    def _unavailable(self, why: str) -> ServiceUnavailable:
        self._connection.close()
        return ServiceUnavailable(f"{self._where}: {why}")

    def _untrusted(self, why: str) -> ServiceUntrusted:
        self._connection.close()
        return ServiceUntrusted(f"{self._where}: {why}; want a certificate of the CA in cvm.ca")


def _session_cookie(lines: list[str]) -> str | None:
    for line in lines:
        match = _COOKIE.fullmatch(line.strip())
        if match:
            return match[1]
    return None
