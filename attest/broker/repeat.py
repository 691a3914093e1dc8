"""Deciding again: every decision on record, from the bytes it rested on, by the rules and the clock of that moment.

A record says what was found; here it is found anew. A difference means that the record, a blob, or this program's
judgement has changed since; each is something an auditor wants to hear about.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import Connection

from attest.audit.canonical import canonical, is_plain, written
from attest.audit.chain import MAX_RECORD, parse_record
from attest.audit.errors import AuditBroken
from attest.audit.record import DECISION, SCHEMA
from attest.broker.appraise import MALFORMED, NOT_GENUINE, UNAVAILABLE, Bound, Found, appraise
from attest.broker.evidence_record import RECEIVED, findings, matched
from attest.broker.findings_text import written_findings
from attest.broker.initdata import sent_init_data
from attest.broker.presented import Blob, Memory, Presented
from attest.broker.rego_engine import RegoUnavailable
from attest.broker.tees import TEES
from attest.store import blobs
from attest.store.records import StoredRecord
from attest.verifier.binding import report_data_for
from policy.document import PolicyDocument, parse_policy
from policy.errors import CvmError
from policy.reference import ReferenceValue, reference_from_bytes
from policy.reference_set import ReferenceSet
from policy.stage import Stage, stage_from_json
from policy.strictjson import strict_json

Read = Callable[[bytes], bytes | None]
"""Bytes by their SHA-256 (32 bytes), ``None`` where they are gone."""

# Many decisions are made by one policy and the same reference values, which are values that never change.
_policy = lru_cache(64)(parse_policy)
_reference = lru_cache(1024)(reference_from_bytes)


@lru_cache(64)
def _names(data: bytes) -> tuple[tuple[str, Stage | None], ...]:
    """Digests (hexadecimal) and stages of the reference values in a set of them."""
    found = strict_json(data, "reference values in force", max_bytes=64 << 20)
    return tuple((entry["sha256"], _stage(entry.get("stage"))) for entry in found)


def _stage(value: Any) -> Stage | None:
    return None if value is None else stage_from_json(value)


def repeat_decision(tx: Connection, stored: StoredRecord) -> bool:
    """Decide again and compare; false where nothing can be repeated: the evidence never parsed, or Rego could not run.

    Raises AuditBroken, naming the record, when a blob is gone or altered or the outcome is another one; RegoUnavailable
    when Rego cannot run here, which says nothing about the record.
    """
    what = f"audit record {stored.seq}"
    return repeat_record(parse_record(stored.record, what), what, lambda digest: blobs.get(tx, digest))


def check_record(
    data: bytes, what: str, kept: Mapping[bytes, bytes], memory: Memory | None = None
) -> tuple[dict[str, Any], bool]:
    """A record's members, and whether it is a decision that was made again. Of one that came out the same, ``body`` is
    without the claims and the decision: they are in ``data``, and were compared.

    ``kept`` are bytes by their SHA-256 (32 bytes), which was compared. Raises AuditBroken as
    :func:`attest.audit.chain.parse_record` and :func:`repeat_record` do.
    """

    def blob(digest: str) -> bytes:
        try:
            return kept[bytes.fromhex(digest)]
        except KeyError:
            raise _gone(digest, what) from None

    record = _decided_alike(data, what, blob, memory)
    if record is not None:
        return record, True
    parsed: Any = parse_record(data, what)
    return parsed, parsed.get("kind") == DECISION and _repeat(parsed, what, blob, memory)


def _decided_alike(data: bytes, what: str, blob: Blob, memory: Memory | None) -> dict[str, Any] | None:
    """The record of a decision that comes out the same; ``None`` for any other, with no reason given.

    Written again with what was found anew in place of what it says, it has to be the very bytes that were read. So it
    is canonical, and a reader that would pass over a second member of one name, or leave out what is found anew, was
    good enough.
    """
    if len(data) > MAX_RECORD:
        return None
    try:
        record: dict[str, Any] = orjson.loads(_without_findings(data))
        body = record["body"]
        if (record["schema"], record["kind"]) != (SCHEMA, DECISION) or RECEIVED in body["evidence"]:
            return None
        if _without_rego(body):
            return None
        outcome, again = _again(blob, body, datetime.fromisoformat(record["time"]), what, memory, written_findings)
        if outcome != record["outcome"]:
            return None
        body["emulated"] = again["emulated"]
        same = is_plain(record) and written({**record, "body": body | again}) == data
    except (CvmError, AttributeError, KeyError, TypeError, ValueError):
        return None
    return record if same else None


def _without_findings(data: bytes) -> bytes:
    """A record without what is found anew and long, where it stands as we write it: claims, decision, emulated."""
    start = data.find(b'"claims":{')
    end = data.find(b'"evidence":{', start)
    return data if start < 0 or end < 0 else data[:start] + data[end:]


def repeat_record(record: Any, what: str, read: Read, memory: Memory | None = None) -> bool:
    """As :func:`repeat_decision`, for a parsed record and wherever ``read`` finds bytes by digest."""
    return _repeat(record, what, lambda digest: _blob(read, digest, what), memory)


def _repeat(record: Any, what: str, blob: Blob, memory: Memory | None) -> bool:
    body = record["body"]
    if RECEIVED in body["evidence"]:
        _check_not_accepted(record, what)
        return False
    if _without_rego(body) and record["outcome"] == UNAVAILABLE:
        return False
    try:
        outcome, again = _again(blob, body, datetime.fromisoformat(record["time"]), what, memory)
        if _without_rego(again):
            raise RegoUnavailable(f"{what}: cannot be decided again here: {again['failure']['message']}")
    except (AuditBroken, RegoUnavailable):
        raise
    except (CvmError, KeyError, TypeError, ValueError) as exc:
        raise AuditBroken(f"{what}: cannot be decided again: {exc}") from None
    _compare(again, {name: body.get(name) for name in again}, what)
    if outcome != record["outcome"]:
        raise AuditBroken(f"{what}: the outcome is {outcome} when decided again, on record is {record['outcome']!r}")
    return True


def _check_not_accepted(record: Any, what: str) -> None:
    """Of evidence that never parsed only a digest is kept, so nothing can be decided again; such a record may only
    refuse.
    """
    body = record["body"]
    outcome = record["outcome"]
    if outcome not in (MALFORMED, NOT_GENUINE, UNAVAILABLE) or (body.get("claims"), body.get("decision")) != (
        None,
        None,
    ):
        raise AuditBroken(f"{what}: evidence that never parsed, and yet the outcome {outcome!r}, claims or a decision")


def _without_rego(body: Mapping[str, Any]) -> bool:
    """Whether nothing was decided because the engine was missing or too slow: chance, which is not repeated."""
    failure = body.get("failure")
    return body.get("decision") is None and isinstance(failure, dict) and failure.get("code") == RegoUnavailable.code


def _compare(again: dict[str, Any], before: dict[str, Any], what: str) -> None:
    try:
        if written(again) == written(before):
            return
    except (TypeError, ValueError):
        pass  # large integers and bytes become text first
    for name, value in again.items():
        if canonical(value) != canonical(before[name]):
            raise AuditBroken(f"{what}: {name} is another one when decided again from the same bytes")


def _again(
    blob: Blob,
    body: Any,
    now: datetime,
    what: str,
    memory: Memory | None,
    say: Callable[[Found], dict[str, Any]] = findings,
) -> tuple[str, dict[str, Any]]:
    """The outcome, and what else the record has to ``say`` again. Records of earlier releases do not say which
    reference values matched.
    """
    found = _decide(blob, body, now, what, Instead(memory=memory))
    if "matched" not in body:
        return found.outcome, say(found)
    references = _references(blob, body)
    return found.outcome, say(found) | {"matched": matched(found, references, now, _vm(blob, body, references, what))}


@dataclass(frozen=True, slots=True)
class Instead:
    """What to decide by in place of what is on record; ``None`` leaves the record's. ``renew`` may give evidence other
    endorsements, ``memory`` is what verifiers remember between decisions.
    """

    document: PolicyDocument | None = None
    references: Sequence[ReferenceValue] | None = None
    renew: Callable[[Presented], Presented] | None = None
    memory: Memory | None = None


def decide_again(read: Read, body: Any, now: datetime, what: str, instead: Instead | None = None) -> Found:
    """The decision of a parsed record's ``body``, made again as of ``now``.

    Raises AuditBroken for bytes that are gone or altered, other CvmError for what does not parse.
    """
    return _decide(lambda digest: _blob(read, digest, what), body, now, what, instead or Instead())


def _decide(blob: Blob, body: Any, now: datetime, what: str, instead: Instead) -> Found:
    binding, rules = body["binding"], body["rules"]
    expected = report_data_for(binding["nonce"], binding["tee_pubkey"], binding["additional_evidence"], binding["hash"])
    if expected.hex() != binding["report_data"]:
        raise AuditBroken(f"{what}: report_data does not follow from the nonce and key on record")
    digest = binding["init_data_digest"]
    presented = TEES[body["tee"]].restore(body["evidence"], blob)
    if instead.renew is not None:
        presented = instead.renew(presented)
    document = instead.document or _policy(blob(rules["policy"]))
    references = _references(blob, body) if instead.references is None else instead.references
    bound = Bound(expected, None if digest is None else bytes.fromhex(digest), _vm(blob, body, references, what))
    return appraise(presented, bound, (document, references), now=now, memory=instead.memory)


def _references(blob: Blob, body: Any) -> ReferenceSet:
    """The reference values that were in force."""
    data = blob(body["rules"]["references"])
    return _set(data, tuple([blob(name) for name, _ in _names(data)]))


@lru_cache(16)
def _set(data: bytes, documents: tuple[bytes, ...]) -> ReferenceSet:
    named = zip(documents, _names(data), strict=True)
    return ReferenceSet(_staged(_reference(document), stage) for document, (_, stage) in named)


def _staged(value: ReferenceValue, stage: Stage | None) -> ReferenceValue:
    return value if stage is None else value._replace(stage=stage)


def _vm(blob: Blob, body: Any, references: Sequence[ReferenceValue], what: str) -> str | None:
    """The VM's name in its init-data, where a reference value asks for one. Raises AuditBroken for a text that is not
    the one whose digest was compared with the launch's.
    """
    binding = body["binding"]
    named = binding.get("init_data")
    if named is None or not any(value.stage and value.stage.canary for value in references):
        return None
    sent = sent_init_data(blob(named).decode())
    if sent.digest.hex() != binding["init_data_digest"]:
        raise AuditBroken(f"{what}: init_data_digest does not follow from the init-data on record")
    return sent.identity.vm


def _blob(read: Read, digest: str, what: str) -> bytes:
    data = read(bytes.fromhex(digest))
    if data is None:
        raise _gone(digest, what)
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise AuditBroken(f"{what}: the bytes {digest} it names were changed, they have {found}")
    return data


def _gone(digest: str, what: str) -> AuditBroken:
    return AuditBroken(f"{what}: the bytes {digest} it names are gone")
