"""What a service is made of before any process of it starts: files read, keys and database opened, sockets bound.

Everything that can be wrong is found here, so that a reload that fails has changed nothing.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from flask import Flask

from attest.broker.bell import Bell
from attest.broker.housekeeping import Housekeeper
from attest.broker.opening import open_service
from attest.broker.service import Service
from attest.keys.files import read_private
from attest.settings import Settings
from attest.settings_dashboard import DashboardSettings
from attest.settings_server import ServerSettings
from attest.web.admin import ADMIN_ROUTES
from attest.web.app import create_app, utc_now
from attest.web.authorities import Authorities
from attest.web.bind import Bound, bind
from attest.web.duties import EVERYTHING, Roles
from attest.web.expiry_watch import ExpiryWatch
from attest.web.gate import Watch
from attest.web.guest import GUEST_ROUTES
from attest.web.listener import Listener
from attest.web.metrics import Metrics
from attest.web.oidc.caller import token_actor
from attest.web.principals import TokenActor, bearer_or, no_caller, tls_caller
from attest.web.tls import server_context

ADMIN_WORKERS, ADMIN_THREADS = 1, 4


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


@dataclass(frozen=True, slots=True)
class Plan:
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
    def of(cls, settings: Settings, metrics: Metrics) -> Plan:
        """Open and read everything. Raises what opening a service raises, TlsMisconfigured."""
        service, server = open_service(settings, Bell()), settings.server
        guest_tls = server_context(server.certificate, server.key)
        admin_tls, authorities = _admin_tls(server)
        by_token = token_actor(server.oidc, server.trustee_admin)
        if settings.dashboard is not None:
            _look_at_pages(settings.dashboard)
        keeper = Housekeeper.of(service, settings)
        return cls(settings, service, keeper, guest_tls, admin_tls, authorities, by_token, metrics)

    def listeners(self, sockets: Sockets, ready: Callable[[], None]) -> tuple[Listener, Listener]:
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


class Sockets(NamedTuple):
    """Bound once, for as long as the service runs. ``pages`` is the dashboard's."""

    guest: Bound
    admin: Bound
    pages: Bound | None

    @classmethod
    def bound(cls, settings: Settings) -> Sockets:
        """Raises AddressUnavailable."""
        server, pages = settings.server, settings.dashboard
        return cls(
            bind(server.listen),
            bind(server.admin_listen),
            None if pages is None else bind(pages.listen, "http" if pages.plain else "https"),
        )


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
