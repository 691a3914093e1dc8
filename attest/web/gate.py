"""In front of an application: what is too much is turned away before anything is made of a request, and every answer
gets its headers, its count and its line in the log.

What the application finds out about a request on the way, it notes for that line in :class:`Noted`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from attest.broker.errors import Overloaded, TooMany
from attest.broker.protocol import MAX_ATTEST_BODY
from attest.broker.service import Service
from attest.web.health import HEALTH
from attest.web.load import HERE
from attest.web.logs import FIELDS
from attest.web.metrics import NO_ROUTE, Metrics
from attest.web.problems import NOTED, Noted, problem_response

Environ = dict[str, Any]
Wsgi = Callable[[Environ, Any], Iterable[bytes]]
GUESTS, OPERATORS = "guests", "operators"
UNDER_WAY = 4
"""So many times as many connections may wait before a guest that has a challenge is turned away: what was done for it
would be lost, and real clients try a challenge again, but not a resource.
"""
CHALLENGED = "HTTP_CVM_CHALLENGE"
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
_UNDER_WAY = ("/kbs/v0/attest", "/kbs/v0/resource/")
_log = logging.getLogger("attest.requests")


@dataclass(frozen=True, slots=True)
class Watch:
    """Where an application counts: under which listener's name, in which counters."""

    listener: str
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class Gate:
    """A WSGI application around ``application``."""

    application: Wsgi
    service: Service
    watch: Watch

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """One request."""
        begun, noted = time.perf_counter(), Noted()
        environ[NOTED] = noted

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            there = {name.lower() for name, _ in headers}  # tiles of the log may be kept, and say so
            headers += [(name, value) for name, value in _HEADERS.items() if name.lower() not in there]
            self._finish(environ, noted, int(status[:3]), time.perf_counter() - begun)
            return start_response(status, headers, *more)

        noted.refused = self._too_much(environ)
        if noted.refused is None or CHALLENGED in environ:  # who asked for a proof gets one of a refusal too
            return self.application(environ, start)
        # What the client sends is read, or the kernel would reset the connection and the answer with it.
        environ["wsgi.input"].read(MAX_ATTEST_BODY)
        HERE.read()
        return problem_response(noted.refused, noted)(environ, start)

    def _too_much(self, environ: Environ) -> Overloaded | TooMany | None:
        path = environ["PATH_INFO"]
        if self.watch.listener != GUESTS or path in HEALTH:
            return None
        limits = self.service.limits
        if HERE.queued > (most := limits.queue * (UNDER_WAY if path.startswith(_UNDER_WAY) else 1)):
            return Overloaded(f"overloaded: {HERE.queued} connections wait, at most {most} may")
        try:
            limits.address.check(environ.get("REMOTE_ADDR", "").encode())
        except TooMany as exc:
            return exc
        return None

    def _finish(self, environ: Environ, noted: Noted, status: int, seconds: float) -> None:
        route = noted.route or NO_ROUTE
        self.watch.metrics.request(self.watch.listener, route, status, seconds)
        fields = {
            "method": environ["REQUEST_METHOD"][:20],
            "path": environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")[:200],
            "route": route,
            "status": status,
            "milliseconds": round(seconds * 1000, 3),
            "peer": environ.get("REMOTE_ADDR"),
        }
        if noted.caller is not None:
            fields["caller"] = noted.caller
        if noted.fault is not None:
            self.watch.metrics.failure(noted.fault)
            fields |= {"fault": noted.fault, "code": noted.code}
        _log.info("request", extra={FIELDS: fields})
