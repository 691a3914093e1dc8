"""Telling that something ends: a log line once for each threshold, and what ``/metrics`` shows."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime

from attest.broker.expiry import ENDED, Expiries, Expiring, due
from attest.broker.service import Service
from attest.web.logs import FIELDS
from policy.errors import CvmError

LOOK_SECONDS = 3600.0
MOST = 200
_UNSHOWN = ("approval",)
"""Names of approvals hold paths of resources."""
_log = logging.getLogger("attest.expiry")


def seconds_left(service: Service, now: datetime) -> list[tuple[str, str, float]]:
    """(Kind, name, seconds) of the soonest :data:`MOST` things; nothing while that cannot be found out.

    What cannot be read counts as ended.
    """
    try:
        found = expiries_of(service).at(now)
    except CvmError as exc:
        _log.error("expiry cannot be looked at: %s", exc.message)
        return []
    shown = [item for item in found if item.kind not in _UNSHOWN][:MOST]
    return [
        (item.kind, item.name, 0.0 if item.expires is None else (item.expires - now).total_seconds()) for item in shown
    ]


def expiries_of(service: Service) -> Expiries:
    """Where this service's things are."""
    return Expiries(service.database, service.rules, service.collateral, service.watched)


class ExpiryWatch:
    """Looks once an hour in a thread of its own. A process that starts anew says once more what is due."""

    def __init__(self, service: Service, clock: Callable[[], datetime]) -> None:
        self._expiries = expiries_of(service)
        self._clock = clock
        self._said: dict[tuple[str, str, datetime | None], int] = {}
        self._stop = threading.Event()

    def start(self) -> None:
        """Look now, and again and again until the process ends."""
        threading.Thread(target=self._run, name="expiry", daemon=True).start()

    def look(self) -> None:
        """Say what came nearer than the last time it was said."""
        now = self._clock()
        for item in self._expiries.at(now):
            days, thing = due(item, now), (item.kind, item.name, item.expires)
            if days is not None and days < self._said.get(thing, 1 + max(30, days)):
                self._said[thing] = days
                _say(item, days)

    def _run(self) -> None:
        while True:
            try:
                self.look()
            except CvmError as exc:
                _log.error("expiry cannot be looked at: %s", exc.message)
            if self._stop.wait(LOOK_SECONDS):
                return


def _say(item: Expiring, days: int) -> None:
    fields = {
        "kind": item.kind,
        "name": item.name,
        "expires": None if item.expires is None else item.expires.isoformat(),
        "days": days,
        "problem": item.problem,
    }
    if days == ENDED:
        _log.error("has ended, or cannot be read", extra={FIELDS: fields})
    else:
        _log.warning("ends soon", extra={FIELDS: fields})
