"""Checking the whole audit trail: the chain of records, what they are found by, the bytes they name, and every decision
made again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from attest.audit.chain import Head, follow, parse_record
from attest.audit.errors import AuditBroken
from attest.audit.record import DECISION
from attest.broker.errors import RequestMalformed
from attest.broker.questions import check_index
from attest.broker.repeat import repeat_decision
from attest.store import records
from attest.store.engine import Database

_HEAD = re.compile(r"([1-9][0-9]{0,15}):([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Checked:
    """What was checked: records in the chain, decisions repeated, decisions whose evidence never was a report."""

    records: int
    repeated: int
    unrepeatable: int
    head: Head


def verify_trail(database: Database, noted: Head | None = None) -> Checked:
    """Raises AuditBroken, naming the first record that does not fit. ``noted`` must be a head of the chain's past."""
    head, repeated, unrepeatable, seen = Head(), 0, 0, noted is None
    with database.read() as tx:
        for stored in records.walk(tx):
            head = follow(head, stored.seq, stored.record, stored.sha256)
            seen = seen or head == noted
            if stored.kind == DECISION:
                again = repeat_decision(tx, stored)
                repeated, unrepeatable = repeated + again, unrepeatable + (not again)
            check_index(stored, parse_record(stored.record, f"audit record {stored.seq}"))
    if not seen:
        raise AuditBroken(f"audit trail: ends at {head}; {noted} is not part of it: records were cut off or replaced")
    return Checked(head.seq, repeated, unrepeatable, head)


def parse_head(text: str) -> Head:
    """``number:sha256`` as ``attest audit verify`` prints it."""
    match = _HEAD.fullmatch(text)
    if match is None:
        raise RequestMalformed(f"head {text[:100]!r}: want NUMBER:SHA256 as audit verify prints it")
    return Head(int(match[1]), bytes.fromhex(match[2]))
