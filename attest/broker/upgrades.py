"""Guided upgrades: the next measurement is registered before it runs, tried by a few, promoted; the old one ends.

1. ``add_reference`` with a canary registers the next value: it counts for nobody but its canary.
2. :func:`promote` lets everybody use it, and says from when the value it follows no longer counts.
3. At that moment the old value stops counting by itself, in every replica, because each decision compares the time.
4. :func:`progress` shows which VMs were last seen on the old one.

Each step is one transaction with its record and raises the generation: no decision is made by half of it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from attest.audit.record import DECISION, REFERENCE_PROMOTE, Event
from attest.broker.errors import RequestMalformed
from attest.broker.guest_facts import vm_named
from attest.broker.operations import By
from attest.broker.questions import read_record
from attest.broker.rules import remember_set
from attest.broker.trail import append
from attest.store import blobs, records, rules
from attest.store.engine import Database
from attest.store.records import Filter, StoredRecord
from attest.store.rules import StoredReference
from policy.decide import AFFIRMING
from policy.stage import Stage, stage_json

NEXT, IN_FORCE, RETIRING, RETIRED = "next", "in force", "retiring", "retired"


def state_of(entry: StoredReference, now: datetime) -> str:
    """One word for where it is in its life."""
    if entry.retired is not None:
        return RETIRED
    stage = entry.stage or Stage()
    if stage.retires is not None:
        return RETIRED if now >= stage.retires else RETIRING
    return IN_FORCE if stage.canary is None else NEXT


def promote(database: Database, name: str, retire_old: datetime | None, by: By) -> str:
    """The next value is in force for everybody; the one it follows counts until ``retire_old`` (``None``: without end).

    Returns the name of the old one. Raises NotFound, RequestMalformed for a value that is not next.
    """
    with database.write() as tx:
        entry = rules.get_reference(tx, name)
        if entry.stage is None or entry.stage.canary is None:
            raise RequestMalformed(f"reference value {name!r}: in force already, want one that was added with --next")
        old = entry.stage.canary.follows
        rules.set_stage(tx, name, None)
        ends = _end(tx, old, retire_old)
        remember_set(tx)
        body = {
            "document": hashlib.sha256(entry.document).digest(),
            "launch_digest": entry.launch_digest,
            "follows": old,
            "follows_retires": None if ends is None else ends.isoformat(),
            "canary_releases": entry.canary_releases,
        }
        append(tx, Event(by.now, REFERENCE_PROMOTE, name, "promoted", by.actor, body))
    return old


def _end(tx: Connection, old: str, when: datetime | None) -> datetime | None:
    """Set the old value's end; ``None`` where there is none, or no old value any more."""
    found = rules.find_reference(tx, old)
    if found is None or when is None:
        return None
    rules.set_stage(tx, old, replace(found.stage or Stage(), retires=when))
    return when


@dataclass(frozen=True, slots=True)
class Seen:
    """A VM by its chip and the name in its init-data, where it has them; when it was last accepted on each value."""

    chip: str | None
    vm: str | None
    old: datetime | None
    new: datetime | None

    @property
    def moved(self) -> bool:
        """Whether it was seen on the next value last."""
        return self.new is not None and (self.old is None or self.new >= self.old)


@dataclass(frozen=True, slots=True)
class Upgrade:
    """One value and the one that follows it."""

    old: StoredReference
    new: StoredReference
    vms: tuple[Seen, ...]

    @property
    def planned(self) -> datetime | None:
        """When the next value is to be promoted."""
        canary = None if self.new.stage is None else self.new.stage.canary
        return None if canary is None else canary.planned

    @property
    def retires(self) -> datetime | None:
        """When the old value stops counting."""
        return self.old.retired or (None if self.old.stage is None else self.old.stage.retires)


def progress(tx: Connection, name: str) -> Upgrade:
    """Of the upgrade to the value ``name``, next or promoted: who was seen on which.

    Raises NotFound, RequestMalformed where it follows no other.
    """
    new = rules.get_reference(tx, name)
    follows = _follows(tx, new)
    old = next((entry for entry in reversed(rules.all_references(tx)) if entry.name == follows), None)
    if old is None:
        raise RequestMalformed(f"reference value {name!r}: follows no other, so there is no upgrade to look at")
    seen: dict[tuple[str | None, str | None], dict[str, datetime]] = {}
    for side, entry in (("old", old), ("new", new)):
        measurement = bytes(entry.launch_digest).hex()
        wanted = Filter(kinds=(DECISION,), measurement=measurement, outcome=AFFIRMING)
        for stored in records.stream(tx, wanted):
            seen.setdefault((stored.facts.chip, _vm(tx, stored)), {})[side] = stored.time
    vms = (Seen(chip, vm, times.get("old"), times.get("new")) for (chip, vm), times in seen.items())
    return Upgrade(old, new, tuple(sorted(vms, key=lambda one: (one.moved, one.chip or "", one.vm or ""))))


def _follows(tx: Connection, new: StoredReference) -> str | None:
    """Whom it follows, or followed when it was promoted: the record says."""
    if new.stage is not None and new.stage.canary is not None:
        return new.stage.canary.follows
    promoted = records.find(tx, Filter(kinds=(REFERENCE_PROMOTE,), subject=new.name), limit=1)
    return str(read_record(promoted[0])["body"]["follows"]) if promoted else None


def _vm(tx: Connection, stored: StoredRecord) -> str | None:
    """The name in the init-data of a decision."""
    digest = read_record(stored)["body"]["binding"].get("init_data")
    text = None if digest is None else blobs.get(tx, bytes.fromhex(digest))
    return None if text is None else vm_named(text.decode())


def plan_json(entry: StoredReference, now: datetime) -> dict[str, object]:
    """State and stage, for listings."""
    stage = None if entry.stage is None else stage_json(entry.stage)
    return {"state": state_of(entry, now), "stage": stage, "canary_releases": entry.canary_releases}
