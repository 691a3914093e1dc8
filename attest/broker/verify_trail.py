"""Checking the whole audit trail: the chain of records, what they are found by, the bytes they name, and every decision
made again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from attest.audit.chain import Head, follow_parsed
from attest.audit.errors import AuditBroken
from attest.audit.record import DECISION
from attest.broker.errors import RequestMalformed
from attest.broker.presented import Memory
from attest.broker.questions import check_index
from attest.broker.repeat import repeat_record
from attest.store import blobs, records
from attest.store.engine import Database

_BLOBS = 256
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
    memory = Memory()
    with database.read() as tx:
        # Of many decisions most rest on the same certificates, lists, policy and reference values.
        read = lru_cache(_BLOBS)(lambda digest: blobs.get(tx, digest))
        for stored in records.walk(tx):
            head, record = follow_parsed(head, stored.seq, stored.record, stored.sha256)
            seen = seen or head == noted
            if stored.kind == DECISION:
                again = repeat_record(record, f"audit record {stored.seq}", read, memory)
                repeated, unrepeatable = repeated + again, unrepeatable + (not again)
            check_index(stored, record)
    if not seen:
        raise AuditBroken(f"audit trail: ends at {head}; {noted} is not part of it: records were cut off or replaced")
    return Checked(head.seq, repeated, unrepeatable, head)


def parse_head(text: str) -> Head:
    """``number:sha256`` as ``attest audit verify`` prints it."""
    match = _HEAD.fullmatch(text)
    if match is None:
        raise RequestMalformed(f"head {text[:100]!r}: want NUMBER:SHA256 as audit verify prints it")
    return Head(int(match[1]), bytes.fromhex(match[2]))
