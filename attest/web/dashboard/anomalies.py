"""The anomalies: what in the log a person should look at.

The log is looked through a stretch at a time: by a thread beside the pages, a fifth of the time until it is at the end,
and by whoever asks for the page, which says how far that came. Records never change, so nothing is looked at twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

from attest.broker.anomalies import KINDS
from attest.broker.questions import plain_json
from attest.store import checkpoints
from attest.web.dashboard.house import Ask, House
from attest.web.dashboard.lookup import PAGE_SIZE
from attest.web.digits import digits
from policy.errors import CvmError

LOOK_SECONDS = 0.7
"""For one request: where the log is long, the next one goes on."""
SLICE_SECONDS, PAUSE_SECONDS, REST_SECONDS = 0.05, 0.2, 30.0
_log = logging.getLogger("attest.anomalies")


def anomalies(ask: Ask) -> dict[str, Any]:
    """``?kind=`` and ``?from=N``: anomalies, newest first, after the first N."""
    with ask.house.looking:
        scan = ask.house.scan
        scan.advance(ask.tx, ask.now, _for(LOOK_SECONDS))
        found, upto = scan.everything(ask.tx, ask.now), scan.upto
    counts = Counter(hit.kind for hit in found)
    kind = ask.query.get("kind") if ask.query.get("kind") in KINDS else None
    wanted = [hit for hit in reversed(found) if kind in (None, hit.kind)]
    first = _first(ask)
    size = checkpoints.size_of_log(ask.tx)
    return {
        "upto": upto,
        "records": size,
        "complete": upto == size,
        "kinds": [{"kind": name, "means": text, "count": counts[name]} for name, text in KINDS.items()],
        "kind": kind,
        "total": len(wanted),
        "anomalies": [plain_json(hit) for hit in wanted[first : first + PAGE_SIZE]],
        "next": first + PAGE_SIZE if first + PAGE_SIZE < len(wanted) else None,
    }


def _first(ask: Ask) -> int:
    return digits(ask.query.get("from", ""), 9) or 0


def look_ahead(house: House, clock: Callable[[], datetime]) -> threading.Event:
    """Look through the log in a thread of its own, until the event is set; call it after the fork."""
    stop = threading.Event()
    threading.Thread(target=_look_on, args=(house, clock, stop), name="anomalies", daemon=True).start()
    return stop


def _look_on(house: House, clock: Callable[[], datetime], stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            ended = look_once(house, clock())
        except CvmError as exc:
            _log.error("the log cannot be looked through: %s", exc.message)
            ended = True
        stop.wait(REST_SECONDS if ended else PAUSE_SECONDS)


def look_once(house: House, now: datetime) -> bool:
    """One slice; whether the log is looked through to its end. Raises StoreUnavailable."""
    with house.looking, house.database.read() as tx:
        house.scan.advance(tx, now, _for(SLICE_SECONDS))
        return house.scan.upto == checkpoints.size_of_log(tx)


def _for(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() < end
