"""``attest serve``: two listeners, or three with the auditors', each with its own processes, under one parent.

Guests and operators never share a worker: a flood of guests does not lock operators out, and nothing that only
operators may do is even loaded where guests connect. The parent binds all sockets before it starts anything, so an
address in use is one clear error; it prints one line when all listeners have a worker, forwards SIGTERM and SIGINT, and
ends all of them if one ends by itself. Beside the listeners run a process that keeps house and, where the settings say
so, one that renews collateral.
"""

from __future__ import annotations

import ctypes
import os
import signal
import ssl
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType

from flask import Flask

from attest.broker.housekeeping import Housekeeper, keep_house
from attest.broker.opening import open_service
from attest.broker.service import Service
from attest.keys.files import read_private
from attest.settings import ServerSettings, Settings
from attest.settings_dashboard import DashboardSettings
from attest.web.admin import ADMIN_ROUTES
from attest.web.app import create_app, utc_now
from attest.web.authorities import Authorities
from attest.web.bind import Bound, bind
from attest.web.dashboard.start import start_dashboard
from attest.web.expiry_watch import ExpiryWatch
from attest.web.gate import Watch
from attest.web.guest import GUEST_ROUTES
from attest.web.listener import Listener, run_listener
from attest.web.logs import log_to_stderr
from attest.web.metrics import Metrics
from attest.web.oidc.caller import token_actor
from attest.web.principals import TokenActor, bearer_or, no_caller, tls_caller
from attest.web.renewing import run_renewer
from attest.web.tls import server_context

ADMIN_WORKERS = 1
_PR_SET_PDEATHSIG = 1
Report = Callable[[str], None]


def guest_app(service: Service, metrics: Metrics) -> Flask:
    """The guests' application."""
    return create_app(service, GUEST_ROUTES, no_caller, watch=Watch("guests", metrics))


def admin_app(
    service: Service, metrics: Metrics, authorities: Authorities | None = None, by_token: TokenActor | None = None
) -> Flask:
    """The operators' application; ``authorities`` tell auditors from operators where both are let in."""
    caller = tls_caller(authorities)
    if by_token is not None:
        caller = bearer_or(caller, by_token)
    return create_app(service, ADMIN_ROUTES, caller, watch=Watch("operators", metrics))


def counters(workers: int) -> Metrics:
    """The counters all processes of this replica share; twice as many rows as workers, for those that take over, and
    one for the process that renews collateral.
    """
    tables = {"guests": GUEST_ROUTES, "operators": ADMIN_ROUTES}
    names = {listener: [route.path for route in routes] for listener, routes in tables.items()}
    return Metrics(names, 2 * (workers + ADMIN_WORKERS) + 1)


def serve(settings: Settings, report: Report, config: Path) -> int:
    """Run until a signal: 0 when asked to stop, 1 when a listener ended by itself. ``report`` gets the ready line.

    ``config`` is the settings' file, for the dashboard's process, which reads its own part of it.
    """
    service = open_service(settings)
    keeper = Housekeeper.of(service, settings)
    server = settings.server
    guest_tls = server_context(server.certificate, server.key)
    admin_tls, authorities = _admin_tls(server)
    by_token = token_actor(server.oidc, server.trustee_admin)
    guest, admin, pages = bind(server.listen), bind(server.admin_listen), _pages(settings.dashboard)
    log_to_stderr()
    keeper.begin(utc_now())
    metrics = counters(server.workers)
    readable, writable = os.pipe()

    def ready() -> None:
        with suppress(OSError):  # a worker that replaces another finds nobody reading any more
            os.write(writable, b".")

    certificate = server.certificate
    listeners = (
        Listener(
            "guests",
            guest.socket,
            certificate,
            guest_tls,
            server.workers,
            lambda: guest_app(service, metrics),
            ready,
            server.threads,
        ),
        Listener(
            "operators",
            admin.socket,
            certificate,
            admin_tls,
            ADMIN_WORKERS,
            lambda: _watching(service, admin_app(service, metrics, authorities, by_token)),
            ready,
        ),
    )
    # All before the supervisor, whose signal handlers are the parent's alone.
    children = [_start(partial(run_listener, listener)) for listener in listeners]
    children.append(_start(lambda: _keep_house(keeper)))
    if service.collateral.renewed is not None:
        children.append(_start(lambda: run_renewer(service, metrics)))
    supervisor = _Supervisor(children)
    for bound in (guest, admin):
        bound.socket.close()
    os.close(writable)
    if pages is not None:
        supervisor.add(_beside(pages, config, report))
    if _wait_ready(readable, server.workers + ADMIN_WORKERS):
        report(f"ready {guest.url} (operators: {admin.url})")
    return supervisor.wait()


def _watching(service: Service, app: Flask) -> Flask:
    """One process of a replica says what ends soon."""
    ExpiryWatch(service, utc_now).start()
    return app


def _admin_tls(server: ServerSettings) -> tuple[ssl.SSLContext, Authorities | None]:
    """The operators' listener: whose certificates it takes, and how auditors' are told apart if they are let in."""
    known = [path for path in (server.operator_ca, server.auditor_ca) if path is not None]
    authorities = None if server.auditor_ca is None else Authorities.of(server.operator_ca, server.auditor_ca).apart()
    context = server_context(
        server.certificate, server.key, *known, demand=server.oidc is None and server.trustee_admin is None
    )
    return context, authorities


def _pages(settings: DashboardSettings | None) -> Bound | None:
    """The dashboard's socket. What is wrong with its files is said here: its own process would fail unheard."""
    if settings is None:
        return None
    if settings.certificate is not None and settings.key is not None:
        server_context(settings.certificate, settings.key)
    if settings.login is not None and settings.login.secret is not None:
        read_private(settings.login.secret)
    return bind(settings.listen, "http" if settings.plain else "https")


def _beside(bound: Bound, config: Path, report: Report) -> int:
    """Start the dashboard's process; returns its id."""
    readable, writable = os.pipe()
    parent = os.getpid()
    child = start_dashboard(config, bound.socket.fileno(), writable, lambda: _die_with(parent))
    bound.socket.close()
    os.close(writable)
    if _wait_ready(readable, 1):
        report(f"dashboard {bound.url}")
    return child


class _Supervisor:
    """Child processes; what happens to one happens to the others."""

    def __init__(self, children: Iterable[int]) -> None:
        self._running = set(children)
        self._asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)

    def add(self, child: int) -> None:
        """One more."""
        self._running.add(child)

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


def _start(run: Callable[[], None]) -> int:
    """A process of its own for ``run``, which ends with it and with this one; returns its id."""
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        _die_with(parent)
        run()
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else 1
    finally:
        if sys.exc_info()[0] is not None:
            sys.excepthook(*sys.exc_info())  # nobody else would say it
        os._exit(code)


def _keep_house(keeper: Housekeeper) -> None:
    """Ended by a signal's own action: whatever it does can be cut off anywhere."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    keep_house(keeper)


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
