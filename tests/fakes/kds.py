"""A key distribution service on loopback: serves what a :class:`FakeAmdPki` signs, and misbehaves on demand.

with FakeKds(pki) as kds:
    kds.next(Reply(status=429, headers={"Retry-After": "7"}))      the next answer, whatever is asked
    kds.always = Reply(status=500)                                 every answer
    source = kds.source(folder)                                    a client of it, with a clock tests turn
    kds.asked                                                      paths in order
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attest.collateral.cache import Cache
from attest.collateral.clock import Budget, Clock
from attest.collateral.kds_settings import KdsSettings
from attest.collateral.limits import Timeouts
from attest.collateral.source import CollateralSource
from attest.collateral.wanted import Family, Kind, Wanted, wanted_vcek
from policy.snp import SigningKey
from tests.fakes.amd_pki import FakeAmdPki
from tests.fakes.background import Background


@dataclass(frozen=True)
class Reply:
    """One answer. ``body=None`` is the right one; ``cut`` sends only so many of its bytes and hangs up; ``delay`` and
    ``drip`` are seconds before the first and after every byte."""

    status: int = 200
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    delay: float = 0.0
    drip: float = 0.0
    length: bool = True


@dataclass
class FakeClock:
    """Time that passes only when somebody sleeps. ``slept`` lists every pause."""

    now: float = 1_780_000_000.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        """Pass ``seconds``."""
        if seconds > 0:
            self.slept.append(seconds)
            self.now += seconds

    @property
    def clock(self) -> Clock:
        """For the client; jitter is always 0.5."""
        return Clock(lambda: self.now, lambda: self.now, self.sleep, lambda: 0.5)

    def budget(self, seconds: float = 60.0) -> Budget:
        """A budget of this clock."""
        return Budget(self.clock, seconds)


class FakeKds(Background):
    """The service; a context manager. It knows the one chip of ``pki``."""

    def __init__(self, pki: FakeAmdPki) -> None:
        self.pki = pki
        self.asked: list[str] = []
        self.headers: list[Mapping[str, str]] = []
        self.always: Reply | None = None
        self.crl: Callable[[], bytes] = pki.crl
        self.vcek: Callable[[], bytes] = lambda: pki.leaf_der
        self.time = FakeClock()
        self._next: deque[Reply] = deque()
        self._stop = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def next(self, *replies: Reply) -> None:
        """What to answer next, in order."""
        self._next.extend(replies)

    def source(self, folder: Path, *, online: bool = True, clock: Clock | None = None) -> CollateralSource:
        """A cache in ``folder`` in front of this service."""
        clock = clock or self.time.clock
        settings = KdsSettings(url=self.url, timeouts=Timeouts(2.0, 2.0))
        return CollateralSource(Cache(folder, clock), settings if online else None, clock)

    @property
    def leaf(self) -> Wanted:
        """The VCEK this service has."""
        return wanted_vcek(self.pki.product, self.pki.chip_id, self.pki.tcb.to_bytes())

    @property
    def chain(self) -> Wanted:
        """The chain this service has."""
        return Wanted(Kind.CHAIN, self.pki.product, self._family)

    @property
    def list(self) -> Wanted:
        """The CRL this service has."""
        return Wanted(Kind.CRL, self.pki.product, self._family)

    @property
    def _family(self) -> Family:
        return Family.VLEK if self.pki.kind is SigningKey.VLEK else Family.VCEK

    def _right(self, path: str) -> bytes | None:
        """AMD's answer, ``None`` for 404."""
        if self.pki.kind is SigningKey.VCEK and path == self.leaf.path:
            return self.vcek()
        if path == self.chain.path:
            return chain_pem(self.pki)
        if path == self.list.path:
            return self.crl()
        return None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        kds = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                kds.asked.append(self.path)
                kds.headers.append(dict(self.headers.items()))
                reply = kds._next.popleft() if kds._next else kds.always or Reply()
                kds._stop.wait(reply.delay)
                right = kds._right(self.path)
                body = reply.body if reply.body is not None else right
                self.close_connection = True
                try:
                    self._answer(reply, 404 if body is None and reply.status == 200 else reply.status, body or b"")
                except OSError:
                    return  # the client went away, which is what some tests are about

            def _answer(self, reply: Reply, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "text/html")  # a lie: nobody is to look at it
                self.send_header("Connection", "close")
                if reply.length:
                    self.send_header("Content-Length", str(len(body)))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                sent = body if reply.cut is None else body[: reply.cut]
                if not reply.drip:
                    self.wfile.write(sent)
                    return
                for number in range(len(sent)):
                    self.wfile.write(sent[number : number + 1])
                    if kds._stop.wait(reply.drip):
                        return

            def log_message(self, *words: object) -> None:
                """Nothing on standard error."""

        return Handler


def chain_pem(pki: FakeAmdPki) -> bytes:
    """Intermediate and root as AMD sends them (Turin: CRLF)."""
    pem = b"".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in (pki.ask_der, pki.ark_der))
    return pem.replace(b"\n", b"\r\n") if pki.product.value == "Turin" else pem
