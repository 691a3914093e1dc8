"""Stored things as JSON values for listings: the operators' listener and the command line show the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attest.audit.canonical import rfc3339
from attest.audit.chain import parse_record
from attest.audit.record import DECISION, REFUSED_RELEASE, RELEASE
from attest.store.records import StoredRecord
from attest.store.rules import StoredReference
from attest.store.secrets import SecretEntry
from policy.reference import reference_from_bytes

_LAUNCH_DIGESTS = ("measurement", "mrtd", "mrenclave")


def secret_json(entry: SecretEntry) -> dict[str, Any]:
    """A resource without its value."""
    return {
        "path": entry.path,
        "version": entry.version,
        "size": entry.size,
        "created": rfc3339(entry.created),
        "created_by": entry.created_by,
        "only_for": None if entry.only_for is None else list(entry.only_for),
        "retired": None if entry.retired is None else rfc3339(entry.retired),
        "pending": entry.pending,
        "source": entry.source,
    }


def started_json(path: object, version: int) -> dict[str, Any]:
    """A replacement of a disk's key that has begun."""
    return {"path": path, "version": version, "state": "waiting for the guest's next boot"}


def aborted_json(path: object, to_remove: bool) -> dict[str, Any]:
    """One that was given up; ``to_remove``: a guest has put the key into its disk already."""
    slot = "removed at the guest's next boot" if to_remove else "none"
    return {"path": path, "state": "given up", "to_remove": to_remove, "old_keyslot": slot}


def reference_json(entry: StoredReference) -> dict[str, Any]:
    """A reference value and its life."""
    value = reference_from_bytes(entry.document)
    return {
        "name": entry.name,
        "platform": value.platform.value,
        "expires": None if value.expires is None else rfc3339(value.expires),
        "launch_digest": entry.launch_digest.hex(),
        "added": rfc3339(entry.added),
        "added_by": entry.added_by,
        "retired": None if entry.retired is None else rfc3339(entry.retired),
        "retired_by": entry.retired_by,
    }


def record_json(stored: StoredRecord, record: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One line of a listing. A decision also says verdict, launch digest and summary; a release names its decision;
    both say whether the chip was emulated. ``record`` is what is stored, parsed, where that was done already.
    """
    entry: dict[str, Any] = {
        "number": stored.seq,
        "time": rfc3339(stored.time),
        "kind": stored.kind,
        "subject": stored.subject,
        "outcome": stored.outcome,
        "sha256": stored.sha256.hex(),
    }
    record = parse_record(stored.record, f"audit record {stored.seq}") if record is None else record
    body: Any = record.get("body")
    if stored.kind == DECISION:
        entry |= {"verdict": stored.outcome, "launch_digest": _launch_digest(body), "summary": body.get("summary")}
    if stored.kind in (RELEASE, REFUSED_RELEASE):
        entry["decision"] = body.get("decision")
    if stored.kind in (DECISION, RELEASE, REFUSED_RELEASE):
        entry |= {"emulated": body.get("emulated"), "token_id": body.get("token_id")}
    return entry


def _launch_digest(decision: Any) -> str | None:
    """``None`` where no evidence was verified."""
    claims = decision.get("claims") or {}
    return next((claims[name] for name in _LAUNCH_DIGESTS if name in claims), None)
