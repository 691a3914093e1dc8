"""Virtual machines, by the name of the reference value they were measured for."""

from __future__ import annotations

from typing import Any

from attest.audit.record import DECISION, REFUSED_RELEASE, RELEASE
from attest.broker.launch_questions import launches_with, runs
from attest.broker.questions import plain_json
from attest.broker.views import reference_json
from attest.store import decisions, records, rules
from attest.store.errors import NotFound
from attest.store.records import Filter
from attest.store.rules import StoredReference
from attest.web.dashboard.house import Ask
from attest.web.dashboard.lookup import PAGE_SIZE, of_kind, row, rows
from attest.web.dashboard.rules import reference_row

_LISTED = 200


def vms(ask: Ask) -> dict[str, Any]:
    """Every name that has a reference value which was not retired."""
    return {"vms": vm_rows(ask, limit=_LISTED)}


def vm_rows(ask: Ask, *, limit: int) -> list[dict[str, Any]]:
    """By name; ``last`` is its newest accepted decision, ``access`` whether that still opens anything, ``runs`` whether
    its host told of a launch that has no end yet.
    """
    newest = {entry.name: entry for entry in rules.active_references(ask.tx)[-limit:]}
    found = [_row(ask, entry) for entry in newest.values()]
    return sorted(found, key=lambda item: (-(item["last"] or {"number": 0})["number"], item["name"]))


def _row(ask: Ask, entry: StoredReference) -> dict[str, Any]:
    found = {name: reference_json(entry)[name] for name in ("name", "platform", "launch_digest")}
    stored = records.newest_accepted(ask.tx, entry.launch_digest.hex())
    last = None if stored is None else row(stored)
    access = None if last is None else _access(ask, last["number"])
    return {**found, "last": last, "access": access, "runs": runs(ask.tx, entry.launch_digest.hex())}


def _access(ask: Ask, number: int) -> dict[str, Any]:
    decision = decisions.get(ask.tx, number)
    if decision is None:
        return {"state": "ended", "until": None}
    ended = decision.ended(rules.generation(ask.tx), ask.now) or "in force"
    return {"state": "ended" if ended == "expired" else ended, "until": decision.expires.isoformat()}


def _launches(ask: Ask, digests: list[str]) -> list[Any]:
    """The newest launches of these digests, newest first; what hosts said of them."""
    found = [launch for digest in digests for launch in launches_with(ask.tx, digest, PAGE_SIZE)]
    return [plain_json(launch) for launch in sorted(found, key=lambda item: -item.number)[:PAGE_SIZE]]


def vm(ask: Ask) -> dict[str, Any]:
    """``?name=``: its reference values, decisions about their digests, and what was released to it."""
    name = ask.query.get("name", "")
    entries = [entry for entry in rules.all_references(ask.tx) if entry.name == name]
    if not entries:
        raise NotFound(f"VM {name[:80]!r}: no reference value of that name was ever registered")
    digests = dict.fromkeys(entry.launch_digest.hex() for entry in entries)
    return {
        "name": name,
        "references": [reference_row(entry, ask.now) for entry in reversed(entries)],
        "launches": _launches(ask, list(digests)),
        "decisions": rows(ask.tx, PAGE_SIZE, *(of_kind(DECISION, measurement=digest) for digest in digests)),
        "releases": rows(ask.tx, PAGE_SIZE, Filter(kinds=(RELEASE, REFUSED_RELEASE), vm=name)),
    }
