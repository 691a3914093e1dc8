"""The operators' side of the key service, as far as a new disk needs it: look whether a resource exists, store it,
erase it.

HTTPS with the standard library; the server is authenticated by the given CA alone and we by an operator certificate.
Source of the paths: Confidential Containers KBS, administration API.
"""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

from policy.errors import CvmError
from policy.secret import SecretBytes
from policy.vocab import ResourcePath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_TIMEOUT: Final = 30.0
_MAX_ANSWER: Final = 16 << 20


class ServiceUnavailable(CvmError):
    """The key service does not answer, or answers that it cannot work now. Worth a retry."""

    code = "service.unavailable"
    exit_status = 8


class ServiceRefused(CvmError):
    """The key service answered and refused: our certificate, or the request."""

    code = "service.refused"
    exit_status = 3


class ResourceExists(CvmError):
    """The service keeps a key of that name already."""

    code = "resource.exists"
    exit_status = 10


@dataclass(frozen=True, slots=True)
class ServiceAccess:
    """Where the operators' listener is (``https://host:port``) and the PEM files for both ends."""

    url: str
    ca: Path
    certificate: Path
    private_key: Path


class KeyService:
    """One connection per call."""

    def __init__(self, access: ServiceAccess) -> None:
        parts = urlsplit(access.url)
        if parts.scheme != "https" or not parts.hostname or parts.path not in ("", "/") or parts.query:
            raise ServiceRefused(f"service: {access.url!r}: want https://host:port", code="service.url")
        self._host, self._port, self._url = parts.hostname, parts.port or 443, access.url
        self._tls = _tls(access)

    def has(self, resource: ResourcePath) -> bool:
        """Whether the service keeps ``resource``. Raises ServiceUnavailable, ServiceRefused."""
        answer = self._call("GET", "/kbs/v0/resource", b"")
        try:
            return any(entry["path"] == resource for entry in json.loads(answer)["resources"])
        except (ValueError, KeyError, TypeError) as error:
            raise ServiceRefused(f"service {self._url}: the list of resources is not understood: {error}") from error

    def store(self, resource: ResourcePath, value: SecretBytes, luks_header: str) -> None:
        """Store a new disk key, and the digest of the disk's header. Raises ResourceExists, ServiceUnavailable,
        ServiceRefused.
        """
        self._call("POST", f"/kbs/v0/resource/{resource}?luks-header={luks_header}", value.reveal())

    def erase(self, resource: ResourcePath) -> None:
        """Erase a resource. Raises ServiceUnavailable, ServiceRefused."""
        self._call("DELETE", f"/kbs/v0/resource/{resource}", b"")

    def _call(self, method: str, path: str, body: bytes) -> bytes:
        connection = HTTPSConnection(self._host, self._port, timeout=_TIMEOUT, context=self._tls)
        try:
            connection.request(method, path, body, {"Content-Type": "application/octet-stream"} if body else {})
            answer = connection.getresponse()
            text = answer.read(_MAX_ANSWER)
        except ssl.SSLCertVerificationError as error:
            raise ServiceRefused(
                f"service {self._url}: its certificate is not accepted: {error.verify_message}",
                code="service.untrusted",
                hint="give the CA certificate that `attest init` wrote with --ca",
            ) from error
        except (OSError, HTTPException) as error:
            raise ServiceUnavailable(f"service {self._url}: {str(error) or type(error).__name__}") from error
        finally:
            connection.close()
        if answer.status == 200:
            return text
        raise _refusal(self._url, path, answer.status, problem_detail(text))


def _tls(access: ServiceAccess) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(access.ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(access.certificate, access.private_key)
    except (OSError, ssl.SSLError) as error:
        files = f"{access.ca}, {access.certificate}, {access.private_key}"
        raise ServiceRefused(f"service: TLS files {files}: {error}", code="service.tls-files") from error
    return context


def _refusal(url: str, path: str, status: int, detail: str) -> CvmError:
    said = f"service {url}: {path}: {status}: {detail}"
    if status == 409:
        return ResourceExists(said, hint="choose another --resource, or erase the old key first if no disk needs it")
    if status == 429 or status >= 500:
        return ServiceUnavailable(said)
    return ServiceRefused(said)


def problem_detail(text: bytes) -> str:
    """The problem's detail, with nothing in it that could steer a terminal."""
    try:
        detail = str(json.loads(text)["detail"])
    except (ValueError, KeyError, TypeError):
        detail = text.decode("utf-8", "replace")
    return "".join(c if c.isprintable() else " " for c in detail[:400])
