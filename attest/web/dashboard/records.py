"""The audit log: its head, its records, one record whole."""

from __future__ import annotations

from typing import Any

from attest.broker.questions import BY_GUESTS, BY_HOSTS
from attest.store import checkpoints, reading
from attest.store.records import Filter
from attest.web.dashboard.house import Ask
from attest.web.dashboard.lookup import before_of, page_of, record_of
from attest.web.dashboard.overview import log_head

CHANGES = "changes"


def records_page(ask: Ask) -> dict[str, Any]:
    """``?kind=`` and ``?before=``: records, newest first, below the tree's head. The kind ``changes`` stands for every
    kind that neither guests nor hosts cause.
    """
    known, kind = reading.kinds(ask.tx), ask.query.get("kind") or None
    kind = kind if kind in known or kind == CHANGES else None
    wanted: tuple[str, ...] = () if kind is None else (kind,)
    if kind == CHANGES:
        wanted = tuple(name for name in known if name not in BY_GUESTS | BY_HOSTS)
    found, more = page_of(ask, Filter(kinds=wanted, before=before_of(ask)))
    return {"head": log_head(ask), "kinds": known, "kind": kind, "records": found, "next": more}


def record(ask: Ask) -> dict[str, Any]:
    """Everything one record says, and whether a signed checkpoint covers it."""
    stored, document = record_of(ask)
    point = checkpoints.newest(ask.tx)
    return {
        "record": document,
        "sha256": stored.sha256.hex(),
        "covered": point is not None and stored.seq <= point.size,
        "lines": lines_of(document["body"]),
    }


def lines_of(value: object, path: str = "") -> list[dict[str, str]]:
    """Plain data as (path, value) lines, in order: whatever a record of whatever kind holds."""
    if isinstance(value, dict) and value:
        return [line for key, member in value.items() for line in lines_of(member, f"{path}.{key}" if path else key)]
    if isinstance(value, list) and value:
        return [line for number, member in enumerate(value) for line in lines_of(member, f"{path}[{number}]")]
    return [{"path": path, "value": "none" if value in (None, [], {}) else str(value)}]
