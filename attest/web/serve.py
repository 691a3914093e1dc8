"""``attest serve``: two listeners, each with its own processes, under one parent that starts and stops them.

Guests and operators never share a worker: a flood of guests does not lock operators out, and nothing that only
operators may do is even loaded where guests connect. The parent binds both sockets before it starts anything, so an
address in use is one clear error; it prints one line when both listeners have a worker, forwards SIGTERM and SIGINT,
and ends both if either ends by itself.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType

from flask import Flask

from attest.broker.opening import open_service
from attest.broker.service import Service
from attest.errors import AttestError
from attest.settings import Address, Settings
from attest.web.admin import ADMIN_ROUTES
from attest.web.app import Watch, create_app
from attest.web.guest import GUEST_ROUTES
from attest.web.listener import Listener, run_listener
from attest.web.logs import log_to_stderr
from attest.web.metrics import Metrics
from attest.web.principals import no_operator, tls_operator
from attest.web.tls import server_context

ADMIN_WORKERS = 1
_BACKLOG = 128
_DEFER_SECONDS = 5
_PR_SET_PDEATHSIG = 1
Report = Callable[[str], None]


class AddressUnavailable(AttestError):
    """An address that cannot be listened on."""

    code = "server.address"


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound socket and the URL it answers at."""

    socket: socket.socket
    url: str


def guest_app(service: Service, metrics: Metrics) -> Flask:
    """The guests' application."""
    return create_app(service, GUEST_ROUTES, no_operator, watch=Watch("guests", metrics))


def admin_app(service: Service, metrics: Metrics) -> Flask:
    """The operators' application."""
    return create_app(service, ADMIN_ROUTES, tls_operator, watch=Watch("operators", metrics))


def counters(workers: int) -> Metrics:
    """The counters all processes of this replica share; twice as many rows as workers, for those that take over."""
    tables = {"guests": GUEST_ROUTES, "operators": ADMIN_ROUTES}
    names = {listener: [route.path for route in routes] for listener, routes in tables.items()}
    return Metrics(names, 2 * (workers + ADMIN_WORKERS))


def serve(settings: Settings, report: Report) -> int:
    """Run until a signal: 0 when asked to stop, 1 when a listener ended by itself. ``report`` gets the ready line."""
    service = open_service(settings)
    server = settings.server
    guest_tls = server_context(server.certificate, server.key)
    admin_tls = server_context(server.certificate, server.key, client_ca=server.operator_ca)
    guest, admin = bind(server.listen), bind(server.admin_listen)
    log_to_stderr()
    metrics = counters(server.workers)
    readable, writable = os.pipe()

    def ready() -> None:
        with suppress(OSError):  # a worker that replaces another finds nobody reading any more
            os.write(writable, b".")

    certificate = server.certificate
    listeners = (
        Listener(
            "guests", guest.socket, certificate, guest_tls, server.workers, lambda: guest_app(service, metrics), ready
        ),
        Listener(
            "operators", admin.socket, certificate, admin_tls, ADMIN_WORKERS, lambda: admin_app(service, metrics), ready
        ),
    )
    children = tuple(_start(listener) for listener in listeners)
    supervisor = _Supervisor(children)
    for bound in (guest, admin):
        bound.socket.close()
    os.close(writable)
    if _wait_ready(readable, server.workers + ADMIN_WORKERS):
        report(f"ready {guest.url} (operators: {admin.url})")
    return supervisor.wait()


def bind(address: Address) -> Bound:
    """A listening socket. Raises AddressUnavailable."""
    try:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((address.host, address.port), family=family, backlog=_BACKLOG)
        # A connection reaches a worker only once it says something: silent ones wait in the kernel.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _DEFER_SECONDS)
    except OSError as exc:
        raise AddressUnavailable(f"address {address}: cannot listen: {exc.strerror or exc}") from None
    host, port = listening.getsockname()[:2]
    return Bound(listening, f"https://{Address(host, port)}")


class _Supervisor:
    """Two child processes; what happens to one happens to the other."""

    def __init__(self, children: tuple[int, ...]) -> None:
        self._running = set(children)
        self._asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        self._end_all()

    def _end_all(self) -> None:
        for child in self._running:
            os.kill(child, signal.SIGTERM)

    def wait(self) -> int:
        """Wait for all children; returns the exit code of the service."""
        while self._running:
            child, _ = os.waitpid(-1, 0)
            self._running.discard(child)
            if not self._asked:
                self._end_all()
        return 0 if self._asked else 1


def _start(listener: Listener) -> int:
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        _die_with(parent)
        run_listener(listener)
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else 1
    finally:
        os._exit(code)


def _die_with(parent: int) -> None:
    """The kernel ends this process when the parent is gone, however it went (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit(1)


def _wait_ready(readable: int, workers: int) -> bool:
    """Whether every worker reported; false when the pipe closed because the listeners ended."""
    reported = 0
    while reported < workers:
        data = os.read(readable, workers)
        if not data:
            break
        reported += len(data)
    os.close(readable)
    return reported >= workers
