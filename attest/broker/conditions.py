"""Judging release conditions in the transaction that releases the resource: nothing it counts changes meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from attest.broker.errors import ApprovalMissing
from attest.store import grants, launches
from attest.store.grants import BREAK_GLASS
from policy.release_conditions import (
    Approval,
    GuestFacts,
    History,
    LaunchRecorded,
    ReleaseConditions,
    approved,
    clone_signs,
    failing,
    parse_conditions,
)

RELEASE = "release"
CHANGE = "change"
EXPORT = "export"
_HOUR = timedelta(hours=1)
_NOTHING = History()


@dataclass(frozen=True, slots=True)
class Verdict:
    """``failed`` names the conditions that do not hold. ``version`` is the conditions', ``since`` when they were set,
    ``None`` where there are none; ``signs`` are those of a clone that are only flagged.
    """

    failed: tuple[str, ...] = ()
    version: int | None = None
    since: datetime | None = None
    history: History = _NOTHING
    watched: bool = False
    signs: tuple[str, ...] = ()


def judge(tx: Connection, path: str, facts: GuestFacts, now: datetime) -> Verdict:
    """Whether ``path`` may be released to this guest now. Without conditions: yes."""
    stored = grants.current(tx, path)
    if stored is None:
        return Verdict()
    conditions = parse_conditions(stored.document)
    history = _history(tx, path, conditions, facts, stored.set_at, now)
    failed = failing(conditions, facts, history, now)
    if stored.disabled:
        failed = ("resource.disabled", *failed)
    watched = conditions.clones is not None
    signs = clone_signs(facts, history) if watched else ()
    return Verdict(failed, stored.version, stored.set_at, history, watched, signs)


def remember(tx: Connection, record: int, path: str, facts: GuestFacts, verdict: Verdict, now: datetime) -> None:
    """Count the release, and note the launch where the conditions watch for clones.

    It counts as one since the conditions were set, also by a clock that is behind the one they were set by.
    """
    if verdict.since is None:
        return
    grants.add_release(tx, record, path, max(now, verdict.since))
    if not verdict.watched or facts.vm is None or facts.machine is None:
        return
    if (facts.machine, facts.instance or "") not in grants.seen_before(tx, facts.vm):
        grants.add_instance(tx, facts.vm, facts.machine, facts.instance or "", now)


def approvers(tx: Connection, path: str, purpose: str, now: datetime) -> frozenset[str]:
    """Who approves ``purpose`` now."""
    return frozenset(entry.operator for entry in grants.in_force(tx, path, now) if entry.purpose == purpose)


def approval_of(tx: Connection, path: str) -> Approval | None:
    """Whose approval the conditions of ``path`` ask for."""
    stored = grants.current(tx, path)
    return (ReleaseConditions() if stored is None else parse_conditions(stored.document)).approval


def need_approval(tx: Connection, path: str, purpose: str, now: datetime) -> frozenset[str]:
    """Use up the approvals of ``purpose``; returns who gave them. Raises ApprovalMissing where there are too few."""
    approval, given = approval_of(tx, path), approvers(tx, path, purpose, now)
    if not approved(approval, given):
        need = 0 if approval is None else approval.need
        got = len(given & set(approval.of)) if approval else 0
        raise ApprovalMissing(
            f"resource {path}: {purpose} has {got} approvals, want {need}",
            hint=f"attest key approve {path} --purpose {purpose}",
        )
    grants.use_up(tx, path, purpose)
    return given


def _history(
    tx: Connection, path: str, conditions: ReleaseConditions, facts: GuestFacts, set_at: datetime, now: datetime
) -> History:
    in_force = grants.in_force(tx, path, now)
    broken = [entry.id for entry in in_force if entry.purpose == BREAK_GLASS]
    seen = grants.seen_before(tx, facts.vm) if conditions.clones is not None and facts.vm is not None else ()
    launched, released = _recorded(tx, path, conditions.launch_recorded, facts, now)
    own = (facts.machine or "", facts.instance or "")
    return History(
        last_hour=0 if conditions.per_hour is None else grants.count(tx, path, now - _HOUR),
        since_set=grants.count(tx, path, set_at) if conditions.once else 0,
        approved_by=frozenset(entry.operator for entry in in_force if entry.purpose == RELEASE),
        launches=launched,
        releases=released,
        break_glass=broken[-1] if broken else None,
        other_machine=bool(seen) and seen[0][0] != own[0],
        superseded=own in seen[:-1],
    )


def _recorded(
    tx: Connection, path: str, wanted: LaunchRecorded | None, facts: GuestFacts, now: datetime
) -> tuple[int, int]:
    """Launches of the guest's digest on record in the time that counts, and releases of ``path`` in it."""
    if wanted is None:
        return 0, 0
    since = now - wanted.within
    return launches.count(tx, facts.launch_digest, since, wanted.by), grants.count(tx, path, since)
