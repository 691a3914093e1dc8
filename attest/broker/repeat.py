"""Deciding again: every decision on record, from the bytes it rested on, by the rules and the clock of that moment.

A record says what was found; here it is found anew. A difference means that the record, a blob, or this program's
judgement has changed since; each is something an auditor wants to hear about.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection

from attest.audit.canonical import canonical
from attest.audit.chain import parse_record
from attest.audit.errors import AuditBroken
from attest.broker.appraise import Bound, Found, appraise
from attest.broker.evidence_record import RECEIVED, findings, matched
from attest.broker.presented import Memory, Presented
from attest.broker.tees import TEES
from attest.store import blobs
from attest.store.records import StoredRecord
from attest.verifier.binding import report_data_for
from policy.document import PolicyDocument, parse_policy
from policy.errors import CvmError
from policy.reference import ReferenceValue, reference_from_bytes
from policy.strictjson import strict_json

Read = Callable[[bytes], bytes | None]
"""Bytes by their SHA-256 (32 bytes), ``None`` where they are gone."""

# Many decisions are made by one policy and the same reference values, which are values that never change.
_policy = lru_cache(64)(parse_policy)
_reference = lru_cache(1024)(reference_from_bytes)


def repeat_decision(tx: Connection, stored: StoredRecord) -> bool:
    """Decide again and compare; false when the evidence never parsed, so there is nothing to repeat.

    Raises AuditBroken, naming the record, when a blob is gone or altered or the outcome is another one.
    """
    what = f"audit record {stored.seq}"
    return repeat_record(parse_record(stored.record, what), what, lambda digest: blobs.get(tx, digest))


def repeat_record(record: Any, what: str, read: Read, memory: Memory | None = None) -> bool:
    """As :func:`repeat_decision`, for a parsed record and wherever ``read`` finds bytes by digest."""
    body = record["body"]
    if RECEIVED in body["evidence"]:
        return False
    try:
        again = _again(read, body, datetime.fromisoformat(record["time"]), what, memory)
    except AuditBroken:
        raise
    except (CvmError, KeyError, TypeError, ValueError) as exc:
        raise AuditBroken(f"{what}: cannot be decided again: {exc}") from None
    for name, value in again.items():
        if canonical(value) != canonical(body.get(name)):
            raise AuditBroken(f"{what}: {name} is another one when decided again from the same bytes")
    return True


def _again(read: Read, body: Any, now: datetime, what: str, memory: Memory | None) -> dict[str, Any]:
    """What the record has to say again. Records of earlier releases do not say which reference values matched."""
    found = decide_again(read, body, now, what, Instead(memory=memory))
    if "matched" not in body:
        return findings(found)
    return findings(found) | {"matched": matched(found, _references(read, body, what), now)}


@dataclass(frozen=True, slots=True)
class Instead:
    """What to decide by in place of what is on record; ``None`` leaves the record's. ``renew`` may give evidence other
    endorsements, ``memory`` is what verifiers remember between decisions.
    """

    document: PolicyDocument | None = None
    references: tuple[ReferenceValue, ...] | None = None
    renew: Callable[[Presented], Presented] | None = None
    memory: Memory | None = None


def decide_again(read: Read, body: Any, now: datetime, what: str, instead: Instead | None = None) -> Found:
    """The decision of a parsed record's ``body``, made again as of ``now``.

    Raises AuditBroken for bytes that are gone or altered, other CvmError for what does not parse.
    """

    def blob(digest: str) -> bytes:
        return _blob(read, digest, what)

    instead = instead or Instead()
    binding, rules = body["binding"], body["rules"]
    expected = report_data_for(binding["nonce"], binding["tee_pubkey"], binding["additional_evidence"], binding["hash"])
    if expected.hex() != binding["report_data"]:
        raise AuditBroken(f"{what}: report_data does not follow from the nonce and key on record")
    digest = binding["init_data_digest"]
    bound = Bound(expected, None if digest is None else bytes.fromhex(digest))
    presented = TEES[body["tee"]].restore(body["evidence"], blob)
    if instead.renew is not None:
        presented = instead.renew(presented)
    document = instead.document or _policy(blob(rules["policy"]))
    references = _references(read, body, what) if instead.references is None else instead.references
    return appraise(presented, bound, (document, references), now=now, memory=instead.memory)


def _references(read: Read, body: Any, what: str) -> tuple[ReferenceValue, ...]:
    """The reference values that were in force."""
    names = strict_json(_blob(read, body["rules"]["references"], what), what, max_bytes=64 << 20)
    return tuple(_reference(_blob(read, entry["sha256"], what)) for entry in names)


def _blob(read: Read, digest: str, what: str) -> bytes:
    data = read(bytes.fromhex(digest))
    if data is None:
        raise AuditBroken(f"{what}: the bytes {digest} it names are gone")
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise AuditBroken(f"{what}: the bytes {digest} it names were changed, they have {found}")
    return data
