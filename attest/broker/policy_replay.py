"""What recorded evidence would get under another policy: every decision of a time again, as of its own moment.

Evidence, endorsements and reference values are the record's bytes, the clock is the record's; only the policy is
another. What differs is what putting that policy in force would have changed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from attest.audit.canonical import rfc3339
from attest.audit.chain import parse_record
from attest.audit.errors import AuditBroken
from attest.audit.record import DECISION
from attest.broker.appraise import Found
from attest.broker.errors import RequestMalformed
from attest.broker.evidence_record import RECEIVED
from attest.broker.repeat import Instead, decide_again
from attest.store import blobs, records
from attest.store.records import Filter, StoredRecord
from policy.document import PolicyDocument
from policy.errors import CvmError
from policy.reference import ReferenceValue


@dataclass(frozen=True, slots=True)
class Replayed:
    """One decision: what it was, what it would be, and the checks that fail under the other policy."""

    record: int
    time: datetime
    launch_digest: str
    before: str
    after: str
    fails: tuple[str, ...]
    message: str

    @property
    def changed(self) -> bool:
        """Whether the outcome is another one."""
        return self.before != self.after


@dataclass(frozen=True, slots=True)
class Replay:
    """All decisions of the time; ``unreadable`` evidence never parsed, so no policy could matter."""

    decisions: tuple[Replayed, ...]
    unreadable: int

    def moves(self) -> list[tuple[str, str, int]]:
        """(Before, after, how many), in order of the words."""
        found = Counter((entry.before, entry.after) for entry in self.decisions)
        return [(*move, count) for move, count in sorted(found.items())]


def replay(
    tx: Connection,
    document: PolicyDocument,
    since: datetime,
    until: datetime,
    *,
    references: tuple[ReferenceValue, ...] | None = None,
    most: int | None = None,
) -> Replay:
    """Decide again everything recorded in [since, until); with ``references``, by those instead of the record's.

    Raises AuditBroken where bytes a record names are gone or altered, RequestMalformed for more decisions than
    ``most``.
    """
    found, unreadable = [], 0
    instead, wanted = Instead(document, references), Filter(kinds=(DECISION,), since=since, until=until)
    if most is not None and (count := records.count(tx, wanted)) > most:
        raise RequestMalformed(
            f"replay: {count} decisions from {rfc3339(since)} to {rfc3339(until)}, want at most {most}",
            hint="ask for less time, or on the service's machine",
        )
    for stored in records.find(tx, wanted):
        entry = _again(tx, stored, instead)
        if entry is None:
            unreadable += 1
        else:
            found.append(entry)
    return Replay(tuple(found), unreadable)


def _again(tx: Connection, stored: StoredRecord, instead: Instead) -> Replayed | None:
    what = f"audit record {stored.seq}"
    record: Any = parse_record(stored.record, what)
    if RECEIVED in record["body"]["evidence"]:
        return None
    try:
        got = decide_again(lambda digest: blobs.get(tx, digest), record["body"], stored.time, what, instead)
    except AuditBroken:
        raise
    except (CvmError, KeyError, TypeError, ValueError) as exc:
        raise AuditBroken(f"{what}: cannot be decided again: {exc}") from None
    return Replayed(stored.seq, stored.time, stored.subject, stored.outcome, got.outcome, _fails(got), _message(got))


def _fails(found: Found) -> tuple[str, ...]:
    return () if found.decision is None else tuple(check.id for check in found.decision.failed)


def _message(found: Found) -> str:
    return "" if found.failure is None else found.failure.message


def replay_json(found: Replay, name: str, since: datetime, until: datetime) -> dict[str, Any]:
    """The counts, and every decision whose outcome would have been another one."""
    return {
        "schema": "attest.policy.replay/1",
        "policy": name,
        "since": rfc3339(since),
        "until": rfc3339(until),
        "decisions": len(found.decisions),
        "unreadable": found.unreadable,
        "outcomes": [{"before": before, "after": after, "count": count} for before, after, count in found.moves()],
        "changed": [
            {
                "record": entry.record,
                "time": rfc3339(entry.time),
                "launch_digest": entry.launch_digest,
                "before": entry.before,
                "after": entry.after,
                "fails": list(entry.fails),
                "message": entry.message,
            }
            for entry in found.decisions
            if entry.changed
        ],
    }
