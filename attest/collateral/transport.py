"""One HTTP request whose cost is bounded: time to connect, time without a byte, total time, and size.

Redirects are not followed, credentials of ``.netrc`` are not sent, compressed bodies are not asked for, content types
are not looked at. Proxies and authorities of the environment (``HTTPS_PROXY``, ``REQUESTS_CA_BUNDLE``) do count.

``requests`` bounds the wait for each packet, not the sum, so a server that drips bytes could hold a caller for ever.
The exchange therefore runs in a thread of its own that is left behind when the time is over; it ends with its socket.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from urllib.parse import urlsplit

import requests
import urllib3

from attest.collateral.errors import CollateralRefused, CollateralUnavailable
from attest.collateral.limits import Timeouts, Tls

_CHUNK = 16 * 1024
urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # only where the operator wrote so
SYSTEM_TLS = Tls()


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, body, and headers as they came; their names are lower-case."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    def header(self, name: str) -> str:
        """The value of a header, empty without one."""
        return self.headers.get(name.lower(), "")


@dataclass(frozen=True, slots=True)
class _Request:
    """``form`` makes it a POST."""

    url: str
    form: Mapping[str, str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def get(url: str, *, max_body: int, timeouts: Timeouts, seconds: float, tls: Tls = SYSTEM_TLS) -> Answer:
    """The answer, whatever its status; bodies of other statuses than 200 are not read.

    Raises :class:`CollateralUnavailable` when there is no complete answer within ``seconds``, and
    :class:`CollateralRefused` for a redirect and a body larger than ``max_body``.
    """
    return _bounded(_Request(url), max_body, (timeouts, tls), seconds)


def post(
    url: str,
    form: Mapping[str, str],
    headers: Mapping[str, str],
    *,
    max_body: int,
    timeouts: Timeouts,
    seconds: float,
    tls: Tls = SYSTEM_TLS,
) -> Answer:
    """The answer to a form, as :func:`get` gives it."""
    return _bounded(_Request(url, form, headers), max_body, (timeouts, tls), seconds)


def _bounded(request: _Request, max_body: int, how: tuple[Timeouts, Tls], seconds: float) -> Answer:
    url = request.url
    result: queue.SimpleQueue[Answer | CollateralUnavailable] = queue.SimpleQueue()
    over = threading.Event()

    def run() -> None:
        try:
            result.put(_exchange(request, max_body, how, over))
        except CollateralUnavailable as exc:
            result.put(exc)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as exc:
            result.put(CollateralUnavailable(f"{_host(url)}: {_reason(exc)}"))

    threading.Thread(target=run, name="collateral", daemon=True).start()
    try:
        outcome = result.get(timeout=max(seconds, 0.01))
    except queue.Empty:
        over.set()
        raise CollateralUnavailable(f"{_host(url)}: no complete answer within {seconds:.1f} s") from None
    if isinstance(outcome, CollateralUnavailable):
        raise outcome
    return outcome


def _exchange(request: _Request, max_body: int, how: tuple[Timeouts, Tls], over: threading.Event) -> Answer:
    url, (timeouts, tls) = request.url, how
    with requests.Session() as session:
        session.auth = _no_credentials
        session.headers.update({"Accept-Encoding": "identity", "User-Agent": f"cvm-attest/{version('cvm')}"})
        with session.request(
            "GET" if request.form is None else "POST",
            url,
            data=request.form,
            headers=dict(request.headers),
            stream=True,
            allow_redirects=False,
            timeout=(timeouts.connect, timeouts.read),
            verify=_verify(tls),
        ) as response:
            if 300 <= response.status_code < 400:
                target = response.headers.get("Location", "nowhere")[:200]
                raise CollateralRefused(f"{_host(url)}: redirects to {target!r}, which is not followed")
            body = _body(response, url, max_body, over) if response.status_code == requests.codes.ok else b""
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status_code, body, headers)


def _verify(tls: Tls) -> bool | str | None:
    """In the words of requests; ``None`` leaves the choice to it and to the environment."""
    if not tls.verify:
        return False
    return None if tls.ca is None else str(tls.ca)


def _body(response: requests.Response, url: str, max_body: int, over: threading.Event) -> bytes:
    stated = response.headers.get("Content-Length", "")
    size = int(stated) if stated.isascii() and stated.isdigit() and len(stated) < 16 else None
    body = bytearray()
    while not over.is_set():
        if len(body) > max_body or (size is not None and size > max_body):
            raise CollateralRefused(f"{_host(url)}: the answer is larger than {max_body} bytes")
        chunk = response.raw.read1(_CHUNK, decode_content=False)
        if not chunk:
            break
        body += chunk
    if size is not None and len(body) != size:
        raise CollateralUnavailable(f"{_host(url)}: the answer was cut off after {len(body)} of {size} bytes")
    return bytes(body)


def _no_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """An authentication that adds nothing; without one, requests looks into ``.netrc``."""
    return request


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _reason(exc: BaseException) -> str:
    """The innermost reason, without the objects requests prints into its messages."""
    if isinstance(exc, (requests.Timeout, urllib3.exceptions.TimeoutError)):
        return "no answer in time"
    while exc.__cause__ is not None or exc.__context__ is not None:
        exc = exc.__cause__ or exc.__context__ or exc
    text = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
    return str(text).splitlines()[0][:200]
