"""The dashboard's process: it opens the database for reading, has no key but its listener's, and serves GET.

Nothing of the packages that hold or use keys is imported here; an import contract and a test on the running process
hold it to that.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress

from flask import Flask

from attest.keys.files import read_private
from attest.settings import DashboardRole
from attest.store.engine import Database
from attest.web.dashboard.anomalies import look_ahead
from attest.web.dashboard.app import create_dashboard, utc_now
from attest.web.dashboard.house import House
from attest.web.dashboard.login import Login
from attest.web.dashboard.sessions import Sessions
from attest.web.dashboard.visitors import Visitors
from attest.web.listener import Listener, run_listener
from attest.web.logs import log_to_stderr
from attest.web.oidc.caller import Bearers
from attest.web.oidc.code_flow import CodeFlow
from attest.web.oidc.provider import Provider
from attest.web.tls import server_context

WORKERS = 2
THREADS = 4


def open_house(role: DashboardRole) -> House:
    """The database, checked and read-only, and the collateral at hand; nothing is fetched."""
    database = Database(role.database, read_only=True)
    database.check()
    database.close()
    return House.of(database, role.collateral)


def serve_dashboard(role: DashboardRole, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT; ends with SystemExit. ``ready`` is called when the first worker answers."""
    own, house = role.own, open_house(role)
    authorities = [role.operators.ca, *(() if own.auditors is None else (own.auditors.ca,))]
    context = None
    if own.certificate is not None and own.key is not None:
        context = server_context(own.certificate, own.key, *authorities, demand=role.oidc is None)
    bearers = Bearers.of(role.oidc) if own.oidc and role.oidc is not None else None
    login = login_of(role)
    visitors = Visitors.anybody(bearers) if own.plain else Visitors.of(role.operators, own.auditors, bearers)
    log_to_stderr()
    # Sessions are in the memory of one process: its threads share them.
    workers, threads = (WORKERS, 1) if login is None else (1, THREADS)
    run_listener(
        Listener(
            "dashboard",
            listening,
            own.certificate,
            context,
            workers,
            lambda: _looking(house, create_dashboard(house, visitors, login=login)),
            ready,
            threads,
        )
    )


def _looking(house: House, app: Flask) -> Flask:
    """In each worker."""
    look_ahead(house, utc_now)
    return app


def login_of(role: DashboardRole) -> Login | None:
    """The pages' own log-in, where the settings have one. Raises KeyFileRefused for its secret."""
    own = role.own.login
    if own is None or role.oidc is None:
        return None
    secret = None if own.secret is None else read_private(own.secret).decode("utf-8", "replace").strip()
    return Login(CodeFlow(role.oidc, own, Provider(role.oidc), secret), Sessions(own.life))


def tell(number: int) -> Callable[[], None]:
    """Says on a pipe that a worker is ready. One that replaces another finds nobody reading any more."""

    def ready() -> None:
        with suppress(OSError):
            os.write(number, b".")

    return ready
