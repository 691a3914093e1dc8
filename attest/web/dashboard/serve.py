"""The dashboard's process: it opens the database for reading, has no key but its listener's, and serves GET.

Nothing of the packages that hold or use keys is imported here; an import contract and a test on the running process
hold it to that.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress

from attest.settings import DashboardRole
from attest.store.engine import Database
from attest.web.dashboard.app import create_dashboard
from attest.web.dashboard.house import House
from attest.web.dashboard.visitors import Visitors
from attest.web.listener import Listener, run_listener
from attest.web.logs import log_to_stderr
from attest.web.oidc.caller import Bearers
from attest.web.tls import server_context

WORKERS = 2


def open_house(role: DashboardRole) -> House:
    """The database, checked and read-only, and the collateral at hand; nothing is fetched."""
    database = Database(role.database, read_only=True)
    database.check()
    database.close()
    return House.of(database, role.collateral)


def serve_dashboard(role: DashboardRole, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT; ends with SystemExit. ``ready`` is called when the first worker answers."""
    own, house = role.own, open_house(role)
    authorities = [path for path in (role.operator_ca, own.auditor_ca) if path is not None]
    context = None
    if own.certificate is not None and own.key is not None:
        context = server_context(own.certificate, own.key, *authorities, demand=role.oidc is None)
    bearers = None if role.oidc is None else Bearers.of(role.oidc)
    visitors = Visitors.anybody(bearers) if own.plain else Visitors.of(role.operator_ca, own.auditor_ca, bearers)
    log_to_stderr()
    run_listener(
        Listener(
            "dashboard", listening, own.certificate, context, WORKERS, lambda: create_dashboard(house, visitors), ready
        )
    )


def tell(number: int) -> Callable[[], None]:
    """Says on a pipe that a worker is ready. One that replaces another finds nobody reading any more."""

    def ready() -> None:
        with suppress(OSError):
            os.write(number, b".")

    return ready
