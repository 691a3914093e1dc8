"""HTTPS to one service whose CA was measured. Plain HTTP does not exist here, nor do redirects, proxies or system
CAs.
"""

from __future__ import annotations

import http.client
import re
import select
import socket
import ssl
from typing import NamedTuple, Protocol

from attest.attester.cmdline import ServiceAddress
from attest.attester.errors import CommandLineMalformed, ServiceMalformed, ServiceUnavailable, ServiceUntrusted

# The real clients wait 60 s: the service may have to fetch endorsements from AMD while the guest waits.
TIMEOUT_SECONDS = 60.0
MAX_BODY = 256 * 1024
USER_AGENT = "cvm-attester/1"
_NO_CHECK_TIME = ssl.VerifyFlags(0x200000)  # X509_V_FLAG_NO_CHECK_TIME, openssl/x509_vfy.h
_COOKIE = re.compile(r"(kbs-session-id=[A-Za-z0-9._~+/=-]{1,256})(?:;.*)?")


class Answer(NamedTuple):
    """Status, body, the session cookie (``name=value``) and the service's proof, each when there was one."""

    status: int
    body: bytes
    cookie: str | None
    proof: str | None = None


class Transport(Protocol):
    """One request, one answer; raises ServiceUnavailable, ServiceUntrusted or ServiceMalformed."""

    def send(
        self, method: str, path: str, body: bytes | None, cookie: str | None, challenge: str | None = None
    ) -> Answer:
        """Send and wait for the whole answer; ``challenge`` (base64url) asks for a proof of it."""


def pinned_context(ca_der: bytes, *, dates: bool = True) -> ssl.SSLContext:
    """TLS 1.2 or later, certificate and host name checked, ``ca_der`` the only trust anchor.

    Without ``dates`` the certificates' times are not looked at: for the one exchange that learns the time.

    The anchor may be a root, an intermediate or the server's own certificate: whichever was measured is what is
    trusted.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    if not dates:
        context.verify_flags |= _NO_CHECK_TIME
    try:
        context.load_verify_locations(cadata=ca_der)
    except (ssl.SSLError, ValueError):
        raise CommandLineMalformed(f"cvm.ca: {len(ca_der)} bytes are not a DER certificate that TLS accepts") from None
    return context


class HttpsTransport:
    """Keeps one connection and opens a new one when the server closed it, which it does after a while of silence."""

    def __init__(self, address: ServiceAddress, context: ssl.SSLContext, *, timeout: float = TIMEOUT_SECONDS) -> None:
        self._where = f"https://{address.host}:{address.port}"
        self._connection = http.client.HTTPSConnection(address.host, address.port, context=context, timeout=timeout)

    def send(
        self, method: str, path: str, body: bytes | None, cookie: str | None, challenge: str | None = None
    ) -> Answer:
        """See :class:`Transport`."""
        headers = {} if challenge is None else {"Cvm-Challenge": challenge}
        if cookie is not None:
            headers["Cookie"] = cookie
        try:
            return self._exchange(method, path, body, headers)
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

    def _exchange(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        headers |= {"User-Agent": USER_AGENT, "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._connection.sock is not None and _has_spoken(self._connection.sock):
            self._connection.close()  # nothing was asked: it can only be the connection's end
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        data = response.read(MAX_BODY + 1)
        if len(data) > MAX_BODY:
            self._connection.close()
            raise ServiceMalformed(f"{self._where}{path}: answer longer than {MAX_BODY} bytes")
        cookie = _session_cookie(response.headers.get_all("Set-Cookie") or [])
        return Answer(response.status, data, cookie, response.headers.get("Cvm-Proof"))

    def _unavailable(self, why: str) -> ServiceUnavailable:
        self._connection.close()
        return ServiceUnavailable(f"{self._where}: {why}")

    def _untrusted(self, why: str) -> ServiceUntrusted:
        self._connection.close()
        return ServiceUntrusted(f"{self._where}: {why}; want a certificate of the CA in cvm.ca")


def _has_spoken(connection: socket.socket) -> bool:
    return bool(select.select([connection], [], [], 0)[0])


def _session_cookie(lines: list[str]) -> str | None:
    for line in lines:
        match = _COOKIE.fullmatch(line.strip())
        if match:
            return match[1]
    return None
