"""Checking a trail of records: numbering, digests, canonical form.

1. Records are numbered 1, 2, 3 … without gap.
2. The bytes of a record have the digest the database states for it.
3. A record is canonical JSON of schema ``cvm.audit/1`` and states its own number.
4. It names the digest of the record before it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from attest.audit.canonical import written
from attest.audit.errors import AuditBroken
from attest.audit.record import SCHEMA
from policy.errors import MalformedInput
from policy.strictjson import strict_json

MAX_RECORD = 4 << 20


@dataclass(frozen=True, slots=True)
class Head:
    """Where a trail ends: the number of its last record (0: empty) and that record's SHA-256."""

    seq: int = 0
    sha256: bytes = bytes(32)

    def __str__(self) -> str:
        return f"{self.seq}:{self.sha256.hex()}"


def follow(head: Head, seq: int, record: bytes, stated_sha256: bytes) -> Head:
    """The head after one more record. Raises AuditBroken, naming the record, if it does not follow."""
    return follow_parsed(head, seq, record, stated_sha256)[0]


def follow_parsed(head: Head, seq: int, record: bytes, stated_sha256: bytes) -> tuple[Head, dict[str, object]]:
    """:func:`follow`, and the record as :func:`parse_record` gives it."""
    what = f"audit record {seq}"
    if seq != head.seq + 1:  # (1)
        missing = f"{head.seq + 1}" if seq == head.seq + 2 else f"{head.seq + 1} to {seq - 1}"
        raise AuditBroken(f"{what}: follows record {head.seq}; record {missing} was removed")
    digest = hashlib.sha256(record).digest()
    if digest != stated_sha256:  # (2)
        raise AuditBroken(f"{what}: digest is {digest.hex()}, the database states {stated_sha256.hex()}")
    document = parse_record(record, what)  # (3)
    if document.get("seq") != seq:
        raise AuditBroken(f"{what}: states number {str(document.get('seq'))[:40]}")
    if document.get("previous") != head.sha256.hex():  # (4)
        raise AuditBroken(
            f"{what}: names {str(document.get('previous'))[:64]} as the digest of record {head.seq}, which has "
            f"{head.sha256.hex()}: a record before it was changed or removed"
        )
    return Head(seq, digest), document


def parse_record(record: bytes, what: str) -> dict[str, object]:
    """The record's JSON object. Raises AuditBroken if it is not canonical or not of our schema."""
    try:
        document = strict_json(record, what, max_bytes=MAX_RECORD, fractions=False)
    except MalformedInput as exc:
        raise AuditBroken(exc.message) from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise AuditBroken(f"{what}: not a {SCHEMA} object")
    try:
        same = written(document) == record
    except (ValueError, TypeError):
        same = False
    if not same:
        raise AuditBroken(f"{what}: not in canonical form")
    return document
