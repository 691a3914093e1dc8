"""The anomalies: what in the log a person should look at. The log is looked through a stretch at a time, and the page
says how far.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from attest.broker.anomalies import KINDS
from attest.broker.questions import plain_json
from attest.store import checkpoints
from attest.web.dashboard.house import Ask
from attest.web.dashboard.lookup import PAGE_SIZE

LOOK_SECONDS = 0.7
"""For one request: where the log is long, the next one goes on."""


def anomalies(ask: Ask) -> dict[str, Any]:
    """``?kind=`` and ``?from=N``: anomalies, newest first, after the first N."""
    end = time.monotonic() + LOOK_SECONDS
    with ask.house.looking:
        scan = ask.house.scan
        scan.advance(ask.tx, ask.now, lambda: time.monotonic() < end)
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
    text = ask.query.get("from", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
