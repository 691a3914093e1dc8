"""What auditors ask of the records: pure reading, one transaction, every answer names the records it rests on.

A record that an answer rests on is checked against its own digest, and what it was found by against what it says: an
index that was tampered with is :class:`AuditBroken`, not a wrong answer. What has no index column is filtered here.
Answers are frozen dataclasses; :func:`answer_json` gives their JSON form.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from attest.audit.canonical import Json, plain
from attest.audit.chain import parse_record
from attest.audit.errors import AuditBroken
from attest.audit.facts import facts_of
from attest.audit.record import DECISION, LAUNCH, LAUNCH_END, REFUSED_RELEASE, RELEASE
from attest.store import records
from attest.store.records import Filter, StoredRecord

BY_GUESTS = frozenset({DECISION, RELEASE, REFUSED_RELEASE})
"""Kinds of record that guests cause."""
BY_HOSTS = frozenset({LAUNCH, LAUNCH_END})
"""Kinds of record that tell what hosts did; every other kind is a change somebody is answerable for."""


@dataclass(frozen=True, slots=True)
class Released:
    """One release of a resource. ``policy`` and ``references`` are those of its decision; ``tcb`` what the chip had."""

    number: int
    time: datetime
    resource: str
    version: int | None
    outcome: str
    decision: int
    chip: str | None
    measurement: str | None
    vm: str | None
    policy: str | None
    references: tuple[str, ...]
    tcb: Mapping[str, Any] | str | None
    emulated: bool


@dataclass(frozen=True, slots=True)
class Ran:
    """One VM that ran a measurement: ``instance`` is its REPORT_ID, of a TD the digest of its key."""

    instance: str
    chip: str | None
    vm: str | None
    first: datetime
    last: datetime
    outcomes: tuple[str, ...]
    decisions: tuple[int, ...]
    emulated: bool


@dataclass(frozen=True, slots=True)
class Signed:
    """One report or quote a chip signed, as it was judged."""

    number: int
    time: datetime
    outcome: str
    measurement: str | None
    vm: str | None
    instance: str
    tcb: Mapping[str, Any] | str | None
    failed: tuple[str, ...]
    emulated: bool


@dataclass(frozen=True, slots=True)
class Change:
    """Something an operator or the service itself changed. ``details`` is the record's body; ``bearer`` names issuer
    and subject where a token said who it was.
    """

    number: int
    time: datetime
    kind: str
    subject: str
    outcome: str
    actor: str
    certificate_sha256: str
    details: Mapping[str, Any]
    bearer: str = ""


@dataclass(frozen=True, slots=True)
class Approver:
    """Who is on record for what: the number of records by kind, the first and the last."""

    actor: str
    certificate_sha256: str
    kinds: Mapping[str, int]
    first: datetime
    last: datetime
    numbers: tuple[int, ...]
    bearer: str = ""


def read_record(stored: StoredRecord) -> dict[str, Any]:
    """The record as it was written. Raises AuditBroken where digest, index or form do not fit."""
    what = f"audit record {stored.seq}"
    if hashlib.sha256(stored.record).digest() != stored.sha256:
        raise AuditBroken(f"{what}: was changed: its digest is not the one the database states")
    record: dict[str, Any] = parse_record(stored.record, what)
    check_index(stored, record)
    return record


def check_index(stored: StoredRecord, record: Mapping[str, Any]) -> None:
    """What a record is found by is what it says. Raises AuditBroken."""
    what = f"audit record {stored.seq}"
    for name in ("seq", "kind", "subject", "outcome"):
        if getattr(stored, name) != record.get(name):
            raise AuditBroken(
                f"{what}: the index says {name} {getattr(stored, name)!r}, the record {record.get(name)!r}"
            )
    if datetime.fromisoformat(str(record.get("time"))) != stored.time:
        raise AuditBroken(f"{what}: the index says time {stored.time}, the record {record.get('time')!r}")
    said = facts_of(stored.kind, stored.subject, record["body"])
    if said != stored.facts:
        raise AuditBroken(f"{what}: the index says {stored.facts}, the record {said}")


def releases(
    tx: Connection, resource: str, *, since: datetime | None = None, until: datetime | None = None
) -> tuple[Released, ...]:
    """Every release of a resource, and every release that was refused, oldest first."""
    wanted = Filter(since=since, until=until, kinds=(RELEASE, REFUSED_RELEASE), subject=resource)
    return tuple(_released(tx, stored) for stored in records.stream(tx, wanted))


def ran(tx: Connection, measurement: str) -> tuple[Ran, ...]:
    """Every VM whose chip vouched for the measurement (hex), by when it was first seen; refused ones too."""
    found: dict[tuple[str | None, str], list[tuple[StoredRecord, Any]]] = {}
    for stored in records.stream(tx, Filter(kinds=(DECISION,), measurement=measurement.lower())):
        body = read_record(stored)["body"]
        found.setdefault((stored.facts.chip, instance_of(body)), []).append((stored, body))
    return tuple(_ran(chip, instance, seen) for (chip, instance), seen in found.items())


def signed_by(
    tx: Connection, chip: str, *, since: datetime | None = None, until: datetime | None = None
) -> tuple[Signed, ...]:
    """Everything a chip (CHIP_ID or PPID, hex) signed for us, oldest first."""
    wanted = Filter(since=since, until=until, kinds=(DECISION,), chip=chip.lower())
    return tuple(_signed(stored) for stored in records.stream(tx, wanted))


def changes(tx: Connection, *, since: datetime | None = None, until: datetime | None = None) -> tuple[Change, ...]:
    """What was changed between two moments, oldest first: everything on record that no guest and no host caused."""
    passed = BY_GUESTS | BY_HOSTS
    return tuple(_change(stored) for stored in records.stream(tx, Filter(since, until)) if stored.kind not in passed)


def approvers(tx: Connection, *, since: datetime | None = None, until: datetime | None = None) -> tuple[Approver, ...]:
    """Who is on record for which changes, by name."""
    found: dict[tuple[str, str, str], list[Change]] = {}
    for change in changes(tx, since=since, until=until):
        found.setdefault((change.actor, change.certificate_sha256, change.bearer), []).append(change)
    return tuple(_approver(who, found[who]) for who in sorted(found))


def answer_json(answer: Sequence[Any]) -> Json:
    """An answer's dataclasses as plain JSON values, times as RFC 3339."""
    return plain([asdict(item) for item in answer])


def plain_json(item: Any) -> Json:
    """One dataclass as plain JSON values."""
    return plain(asdict(item))


def instance_of(body: Mapping[str, Any]) -> str:
    """What tells one VM from the next with the same measurement: REPORT_ID, which SNP makes at launch. A TD has no such
    number: it is the digest of the key it made for this attestation's channel.
    """
    claims = body["claims"] or {}
    if isinstance(claims.get("report_id"), str):
        return str(claims["report_id"])
    key = body["binding"]["tee_pubkey"]
    return hashlib.sha256(repr(sorted(key.items())).encode()).hexdigest()


def tcb_of(claims: Mapping[str, Any] | None) -> Mapping[str, Any] | str | None:
    """The reported TCB of an SNP report; of a quote the platform's status."""
    if claims is None:
        return None
    if "reported_tcb" in claims:
        found: Mapping[str, Any] = claims["reported_tcb"]
        return found
    return str(claims["tcb"]["status"]) if "tcb" in claims else None


def _released(tx: Connection, stored: StoredRecord) -> Released:
    body = read_record(stored)["body"]
    decision = records.get(tx, body["decision"])
    if decision is None:
        raise AuditBroken(f"audit record {stored.seq}: names decision {body['decision']}, which is not on record")
    made: Any = read_record(decision)["body"]
    return Released(
        number=stored.seq,
        time=stored.time,
        resource=stored.subject,
        version=body.get("version"),
        outcome=stored.outcome,
        decision=decision.seq,
        chip=decision.facts.chip,
        measurement=decision.facts.measurement,
        vm=decision.facts.vm,
        policy=made["rules"]["policy"],
        references=tuple(made.get("matched", ())),
        tcb=tcb_of(made["claims"]),
        emulated=bool(body["emulated"]),
    )


def _ran(chip: str | None, instance: str, seen: Sequence[tuple[StoredRecord, Any]]) -> Ran:
    first, last = seen[0][0], seen[-1][0]
    return Ran(
        instance=instance,
        chip=chip,
        vm=last.facts.vm,
        first=first.time,
        last=last.time,
        outcomes=tuple(dict.fromkeys(stored.outcome for stored, _ in seen)),
        decisions=tuple(stored.seq for stored, _ in seen),
        emulated=any(body["emulated"] for _, body in seen),
    )


def _signed(stored: StoredRecord) -> Signed:
    body = read_record(stored)["body"]
    checks = body["decision"]["checks"] if body["decision"] else ()
    return Signed(
        number=stored.seq,
        time=stored.time,
        outcome=stored.outcome,
        measurement=stored.facts.measurement,
        vm=stored.facts.vm,
        instance=instance_of(body),
        tcb=tcb_of(body["claims"]),
        failed=tuple(check["id"] for check in checks if check["outcome"] == "fail"),
        emulated=bool(body["emulated"]),
    )


def _change(stored: StoredRecord) -> Change:
    record = read_record(stored)
    actor = record["actor"]
    return Change(
        number=stored.seq,
        time=stored.time,
        kind=stored.kind,
        subject=stored.subject,
        outcome=stored.outcome,
        actor=f"{actor['kind']}:{actor['name']}" if actor["name"] else actor["kind"],
        certificate_sha256=actor["certificate_sha256"],
        details=record["body"],
        bearer=_bearer(actor.get("bearer")),
    )


def _bearer(found: Mapping[str, str] | None) -> str:
    return "" if found is None else f"{found['subject']} at {found['issuer']}"


def _approver(who: tuple[str, str, str], made: Sequence[Change]) -> Approver:
    kinds: dict[str, int] = {}
    for change in made:
        kinds[change.kind] = kinds.get(change.kind, 0) + 1
    numbers = tuple(change.number for change in made)
    return Approver(who[0], who[1], kinds, made[0].time, made[-1].time, numbers, who[2])
