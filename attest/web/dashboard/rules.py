"""What decisions are made by: the policy's history with its differences, and the reference values."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from difflib import SequenceMatcher
from typing import Any

from attest.audit.chain import parse_record
from attest.audit.record import DECISION, POLICY_APPLY
from attest.broker.views import reference_json
from attest.store import blobs, rules
from attest.store.errors import NotFound
from attest.store.records import StoredRecord
from attest.store.rules import StoredReference
from attest.web.dashboard.house import Ask
from attest.web.dashboard.launch import expected_inputs
from attest.web.dashboard.lookup import before_of, newest, of_kind, record_of, rows
from policy.document import parse_policy
from policy.reference import reference_from_bytes
from policy.reference_tdx import TdRecipe

_PAGE = 50
SAME, ADDED, REMOVED = "same", "added", "removed"
IN_FORCE = "in force"


def policy_in_force(ask: Ask) -> dict[str, Any]:
    """Name and digest of the policy in force, and whether it accepts emulated hardware; empty while there is none."""
    digest = rules.active_policy(ask.tx)
    data = None if digest is None else blobs.get(ask.tx, digest)
    if digest is None or data is None:
        return {}
    document = parse_policy(data)
    return {"name": document.name, "sha256": digest.hex(), "emulated": document.emulated_allowed}


def policies(ask: Ask) -> dict[str, Any]:
    """Every change of the policy, newest first."""
    found = newest(ask.tx, _PAGE + 1, of_kind(POLICY_APPLY, before=before_of(ask)))
    return {
        "in_force": policy_in_force(ask),
        "policies": [_change(stored) for stored in found[:_PAGE]],
        "next": found[_PAGE - 1].seq if len(found) > _PAGE else None,
    }


def _change(stored: StoredRecord) -> dict[str, Any]:
    document: Any = parse_record(stored.record, f"audit record {stored.seq}")
    return {
        "number": stored.seq,
        "name": stored.subject,
        "time": document["time"],
        "actor": document["actor"],
        "sha256": document["body"]["policy"],
        "previous": document["body"]["previous"],
    }


def policy(ask: Ask) -> dict[str, Any]:
    """One change: the document line by line beside the one before."""
    stored, _ = record_of(ask, POLICY_APPLY)
    change = _change(stored)
    before = [] if change["previous"] is None else _text(ask, change["previous"])
    lines = list(_difference(before, _text(ask, change["sha256"])))
    counts = {name: sum(line["state"] == name for line in lines) for name in (ADDED, REMOVED)}
    return {**change, "lines": lines, "counts": counts}


def _text(ask: Ask, digest: str) -> list[str]:
    data = blobs.get(ask.tx, bytes.fromhex(digest))
    if data is None:
        raise NotFound(f"policy: the bytes {digest} are gone")
    return data.decode("utf-8", "replace").splitlines()


def _difference(before: list[str], after: list[str]) -> Iterator[dict[str, str]]:
    for _, old_start, old_end, new_start, new_end in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        same = before[old_start:old_end] == after[new_start:new_end]
        if not same:
            yield from ({"state": REMOVED, "text": text} for text in before[old_start:old_end])
        yield from ({"state": SAME if same else ADDED, "text": text} for text in after[new_start:new_end])


def references(ask: Ask) -> dict[str, Any]:
    """Every reference value, those in force first, the newest of them first."""
    found = [reference_row(entry, ask.now) for entry in rules.all_references(ask.tx)]
    found.sort(key=lambda item: (item["state"] != IN_FORCE, -item["id"]))
    return {"references": found}


def reference_row(entry: StoredReference, now: datetime) -> dict[str, Any]:
    """A reference value with its number, and whether it is in force, was retired, or has reached its end."""
    found = reference_json(entry)
    ended = found["expires"] is not None and datetime.fromisoformat(found["expires"]) <= now
    state = "retired" if entry.retired is not None else "ended" if ended else IN_FORCE
    return {**found, "id": entry.id, "state": state}


def reference(ask: Ask) -> dict[str, Any]:
    """One reference value, what its digest is made of, and the newest decisions about that digest."""
    number = ask.arguments["number"]
    entry = next((entry for entry in rules.all_references(ask.tx) if entry.id == number), None)
    if entry is None:
        raise NotFound(f"reference value {number}: not found")
    value = reference_from_bytes(entry.document)
    inputs = [] if value.recipe is None else [item._asdict() for item in value.recipe.inputs]
    events = []
    if isinstance(value.recipe, TdRecipe):
        events = [
            {"register": f"RTMR{event.register}", "name": event.name, "detail": event.detail}
            for event in value.recipe.events
        ]
    return {
        **reference_row(entry, ask.now),
        "files": inputs,
        "inputs": expected_inputs(value),
        "rtmr": [None if register is None else register.hex() for register in value.rtmrs],
        "events": events,
        "decisions": rows(ask.tx, 20, of_kind(DECISION, measurement=entry.launch_digest.hex())),
    }
