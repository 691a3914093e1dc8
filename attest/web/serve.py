"""``attest serve``: two listeners, or three with the auditors', each with its own processes, under one parent.

Guests and operators never share a worker: a flood of guests does not lock operators out, and where guests connect there
is no route for what only operators may do. The parent binds all sockets before it starts anything, so an
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
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from attest.broker.housekeeping import Housekeeper, keep_house
from attest.settings import Settings, SettingsInvalid, load_settings
from attest.settings_parts import Address
from attest.web.app import utc_now
from attest.web.bind import Bound
from attest.web.dashboard.start import start_dashboard
from attest.web.listener import run_listener
from attest.web.logs import log_to_stderr
from attest.web.plan import ADMIN_WORKERS, Plan, Sockets, counters
from attest.web.renewing import run_renewer
from attest.web.supervisor import Supervisor
from policy.errors import CvmError

Report = Callable[[str], None]
_log = logging.getLogger("attest")


def serve(settings: Settings, report: Report, config: Path, put_in_force: Callable[[Settings], None]) -> int:
    """Run until a signal: 0 when asked to stop, 1 when a listener ended by itself. ``report`` gets the ready line.

    ``config`` is the settings' file, to be read again, also by the dashboard's process, which reads its own part of it;
    ``put_in_force`` does that with the policy of settings that were read again.
    """
    plan = Plan.of(settings, counters(settings.server.workers))
    sockets = Sockets.bound(settings)
    log_to_stderr()
    plan.keeper.begin(utc_now())
    supervisor = Supervisor()
    running = _Running(supervisor, sockets, config, report, put_in_force, plan)
    running.begin()
    return supervisor.wait(running.reload)


@dataclass(slots=True)
class _Running:
    """A service that runs: what it is made from now, and its processes."""

    supervisor: Supervisor
    sockets: Sockets
    config: Path
    report: Report
    put_in_force: Callable[[Settings], None]
    plan: Plan
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

    def _planned_again(self) -> Plan:
        settings, old = load_settings(self.config), self.plan
        if _addresses(settings) != _addresses(old.settings):
            raise SettingsInvalid(str(self.config), ("an address to listen on has changed: that takes a restart",))
        same = settings.server.workers == old.settings.server.workers
        plan = Plan.of(settings, old.metrics if same else counters(settings.server.workers))
        self.put_in_force(settings)
        plan.keeper.begin(utc_now())
        return plan

    def _start(self, plan: Plan) -> _Started:
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


def _keep_house(keeper: Housekeeper) -> None:
    """Ended by a signal's own action: whatever it does can be cut off anywhere."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    bell = keeper.service.bell
    keep_house(keeper, wait=time.sleep if bell is None else bell.wait)
