"""``attest serve``: two listeners, or three with the auditors', each with its own processes, under one parent.

Guests and operators never share a worker: a flood of guests does not lock operators out, and nothing that only
operators may do is even loaded where guests connect. The parent binds all sockets before it starts anything, so an
address in use is one clear error; it prints one line when all listeners have a worker, forwards SIGTERM and SIGINT, and
ends all of them if one ends by itself. Beside the listeners run a process that keeps house and, where the settings say
so, one that renews collateral.

At SIGHUP it does once more all that a start does, but keeps the sockets: new processes take connections from them
before the old ones stop, which then answer what they were asked. Whatever fails on the way leaves the old ones serving.
"""

from __future__ import annotations

import logging
import os
import signal
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from flask import Flask

from attest.broker.bell import Bell
from attest.broker.housekeeping import Housekeeper, keep_house
from attest.broker.opening import open_service
from attest.broker.service import Service
from attest.keys.files import read_private
from attest.settings import Settings, SettingsInvalid, load_settings
from attest.settings_dashboard import DashboardSettings
from attest.settings_parts import Address
from attest.settings_server import ServerSettings
from attest.web.admin import ADMIN_ROUTES
from attest.web.app import create_app, utc_now
from attest.web.authorities import Authorities
from attest.web.bind import Bound, bind
from attest.web.dashboard.start import start_dashboard
from attest.web.duties import EVERYTHING, Roles
from attest.web.expiry_watch import ExpiryWatch
from attest.web.gate import Watch
from attest.web.guest import GUEST_ROUTES
from attest.web.listener import Listener, run_listener
from attest.web.logs import log_to_stderr
from attest.web.metrics import Metrics
from attest.web.oidc.caller import token_actor
from attest.web.principals import TokenActor, bearer_or, no_caller, tls_caller
from attest.web.renewing import run_renewer
from attest.web.supervisor import Supervisor
from attest.web.tls import server_context
from policy.errors import CvmError

ADMIN_WORKERS, ADMIN_THREADS = 1, 4
Report = Callable[[str], None]
_log = logging.getLogger("attest")


def guest_app(service: Service, metrics: Metrics) -> Flask:
    """The guests' application."""
    return create_app(service, GUEST_ROUTES, no_caller, watch=Watch("guests", metrics))


def admin_app(
    service: Service,
    metrics: Metrics,
    authorities: Authorities | None = None,
    by_token: TokenActor | None = None,
    roles: Roles = EVERYTHING,
) -> Flask:
    """The operators' application; ``authorities`` tell auditors from operators where both are let in."""
    caller = tls_caller(authorities)
    if by_token is not None:
        caller = bearer_or(caller, by_token)
    return create_app(service, ADMIN_ROUTES, caller, watch=Watch("operators", metrics), roles=roles)


def counters(workers: int) -> Metrics:
    """The counters all processes of this replica share; twice as many rows as processes that count, for those that take
    over.
    """
    tables = {"guests": GUEST_ROUTES, "operators": ADMIN_ROUTES}
    names = {listener: [route.path for route in routes] for listener, routes in tables.items()}
    return Metrics(names, 2 * (workers + ADMIN_WORKERS + 1))


def serve(settings: Settings, report: Report, config: Path, put_in_force: Callable[[Settings], None]) -> int:
    """Run until a signal: 0 when asked to stop, 1 when a listener ended by itself. ``report`` gets the ready line.

    ``config`` is the settings' file, to be read again, also by the dashboard's process, which reads its own part of it;
    ``put_in_force`` does that with the policy of settings that were read again.
    """
    plan = _Plan.of(settings, counters(settings.server.workers))
    sockets = _Sockets.bound(settings)
    log_to_stderr()
    plan.keeper.begin(utc_now())
    supervisor = Supervisor()
    running = _Running(supervisor, sockets, config, report, put_in_force, plan)
    running.begin()
    return supervisor.wait(running.reload)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one reading of the settings comes to: everything that can be wrong was looked at when this was made."""

    settings: Settings
    service: Service
    keeper: Housekeeper
    guest_tls: ssl.SSLContext
    admin_tls: ssl.SSLContext
    authorities: Authorities | None
    by_token: TokenActor | None
    metrics: Metrics

    @classmethod
    def of(cls, settings: Settings, metrics: Metrics) -> _Plan:
        """Open and read everything. Raises what opening a service raises, TlsMisconfigured."""
        service, server = open_service(settings, Bell()), settings.server
        guest_tls = server_context(server.certificate, server.key)
        admin_tls, authorities = _admin_tls(server)
        by_token = token_actor(server.oidc, server.trustee_admin)
        if settings.dashboard is not None:
            _look_at_pages(settings.dashboard)
        keeper = Housekeeper.of(service, settings)
        return cls(settings, service, keeper, guest_tls, admin_tls, authorities, by_token, metrics)

    def listeners(self, sockets: _Sockets, ready: Callable[[], None]) -> tuple[Listener, Listener]:
        """The guests' and the operators'."""
        server, service, metrics = self.settings.server, self.service, self.metrics

        def operators() -> Flask:
            return _watching(service, admin_app(service, metrics, self.authorities, self.by_token, Roles(server.roles)))

        return (
            Listener(
                "guests",
                sockets.guest.socket,
                server.certificate,
                self.guest_tls,
                server.workers,
                lambda: guest_app(service, metrics),
                ready,
                server.threads,
            ),
            Listener(
                "operators",
                sockets.admin.socket,
                server.certificate,
                self.admin_tls,
                ADMIN_WORKERS,
                operators,
                ready,
                ADMIN_THREADS,
            ),
        )


class _Sockets(NamedTuple):
    """Bound once, for as long as the service runs. ``pages`` is the dashboard's."""

    guest: Bound
    admin: Bound
    pages: Bound | None

    @classmethod
    def bound(cls, settings: Settings) -> _Sockets:
        """Raises AddressUnavailable."""
        server, pages = settings.server, settings.dashboard
        return cls(
            bind(server.listen),
            bind(server.admin_listen),
            None if pages is None else bind(pages.listen, "http" if pages.plain else "https"),
        )


@dataclass(slots=True)
class _Running:
    """A service that runs: what it is made from now, and its processes."""

    supervisor: Supervisor
    sockets: _Sockets
    config: Path
    report: Report
    put_in_force: Callable[[Settings], None]
    plan: _Plan
    children: tuple[int, ...] = ()

    def begin(self) -> None:
        """Start it and say that it is ready."""
        started = self._start(self.plan)
        self.children = started.children
        if started.ready:
            self.report(f"ready {self.sockets.guest.url} (operators: {self.sockets.admin.url})")

    def reload(self) -> None:
        """Go over to the settings as they are now; whatever is wrong is logged, and nothing changes."""
        try:
            plan = self._planned_again()
        except CvmError as exc:
            _log.error("reload refused, the service goes on as it was: %s", exc.message)
            return
        started = self._start(plan)
        if not started.ready:
            _log.error("reload failed, the service goes on as it was: its new processes ended")
            self.supervisor.retire(started.children)
            return
        self.supervisor.retire(self.children)
        self.plan.service.database.close()
        self.plan, self.children = plan, started.children
        self.report(f"reloaded {self.sockets.guest.url} (operators: {self.sockets.admin.url})")

    def _planned_again(self) -> _Plan:
        settings, old = load_settings(self.config), self.plan
        if _addresses(settings) != _addresses(old.settings):
            raise SettingsInvalid(str(self.config), ("an address to listen on has changed: that takes a restart",))
        same = settings.server.workers == old.settings.server.workers
        plan = _Plan.of(settings, old.metrics if same else counters(settings.server.workers))
        self.put_in_force(settings)
        plan.keeper.begin(utc_now())
        return plan

    def _start(self, plan: _Plan) -> _Started:
        readable, writable = os.pipe()

        def ready() -> None:
            with suppress(OSError):  # a worker that replaces another finds nobody reading any more
                os.write(writable, b".")

        start = self.supervisor.start
        children = [start(partial(run_listener, listener)) for listener in plan.listeners(self.sockets, ready)]
        children.append(start(lambda: _keep_house(plan.keeper)))
        if plan.service.collateral.renewed is not None:
            children.append(start(lambda: run_renewer(plan.service, plan.metrics)))
        os.close(writable)
        if self.sockets.pages is not None:
            children.append(self._beside(self.sockets.pages))
        reports = plan.settings.server.workers + ADMIN_WORKERS
        good = self.supervisor.all_ready(readable, reports, children)
        os.close(readable)
        return _Started(tuple(children), good)

    def _beside(self, bound: Bound) -> int:
        """Start the dashboard's process; returns its id."""
        readable, writable = os.pipe()
        with self.supervisor.forking() as begin:
            child = start_dashboard(self.config, bound.socket.fileno(), writable, begin)
        self.supervisor.add(child)
        os.close(writable)
        if self.supervisor.all_ready(readable, 1, [child]):
            self.report(f"dashboard {bound.url}")
        os.close(readable)
        return child


class _Started(NamedTuple):
    """Processes, and whether all of them answer."""

    children: tuple[int, ...]
    ready: bool


def _addresses(settings: Settings) -> tuple[Address | None, ...]:
    pages = settings.dashboard
    return settings.server.listen, settings.server.admin_listen, None if pages is None else pages.listen


def _watching(service: Service, app: Flask) -> Flask:
    """One process of a replica says what ends soon."""
    ExpiryWatch(service, utc_now).start()
    return app


def _admin_tls(server: ServerSettings) -> tuple[ssl.SSLContext, Authorities | None]:
    """The operators' listener: whose certificates it takes, and how auditors' are told apart if they are let in,
    and what was taken back.
    """
    operators, auditors = server.operators, server.auditors
    known = [operators.ca, *(() if auditors is None else (auditors.ca,))]
    alone = auditors is None and operators.crl is None  # then whom TLS verified is an operator
    authorities = None if alone else Authorities.of(operators, auditors).apart()
    context = server_context(
        server.certificate, server.key, *known, demand=server.oidc is None and server.trustee_admin is None
    )
    return context, authorities


def _look_at_pages(settings: DashboardSettings) -> None:
    """What is wrong with the dashboard's files is said here: its own process would fail unheard."""
    if settings.certificate is not None and settings.key is not None:
        server_context(settings.certificate, settings.key)
    if settings.login is not None and settings.login.secret is not None:
        read_private(settings.login.secret)


def _keep_house(keeper: Housekeeper) -> None:
    """Ended by a signal's own action: whatever it does can be cut off anywhere."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    bell = keeper.service.bell
    keep_house(keeper, wait=time.sleep if bell is None else bell.wait)
