"""What operators do with a resource after it is stored: conditions, approvals, break-glass, stopping, export.

Conditions that ask for the approval of several operators also guard themselves: they are changed, and the value is
exported, only with as many approvals of that purpose, which are used up. Approvals come with an operator's certificate;
whoever runs a shell on the service's machine is no operator of this kind.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection

from attest.audit.canonical import rfc3339
from attest.audit.record import APPROVAL, BREAK_GLASS, CONDITIONS_SET, RESOURCE_EXPORT, RESOURCE_STATE, VM_FORGET, Event
from attest.broker.conditions import CHANGE, EXPORT, RELEASE, approval_of, approvers, need_approval
from attest.broker.errors import ApprovalMissing, RequestMalformed, ResourceUnknown
from attest.broker.operations import By
from attest.broker.rotation import rotation_json
from attest.broker.trail import append
from attest.broker.views import secret_json
from attest.keys.envelope import Sealed, unseal
from attest.keys.master import MasterKeys
from attest.store import grants, secrets
from attest.store.engine import Database
from attest.store.errors import NotFound
from attest.store.grants import StoredApproval
from policy.release_conditions import parse_conditions
from policy.secret import SecretBytes
from policy.vocab import ResourcePath

PURPOSES = (RELEASE, CHANGE, EXPORT)
MAX_MINUTES = 7 * 24 * 60
MAX_BREAK_GLASS = 60
MAX_REASON = 500


def resource_json(database: Database, path: ResourcePath, now: datetime) -> dict[str, Any]:
    """A resource without its value, its conditions, who approves now; of a disk's key its header and replacement.

    Raises ResourceUnknown.
    """
    with database.read() as tx:
        entry = secrets.entry(tx, path)
        if entry is None:
            raise ResourceUnknown(f"resource {path}: not found")
        stored, in_force = grants.current(tx, path), grants.in_force(tx, path, now)
        disk = rotation_json(tx, path, entry.version)
    conditions = stored and {
        "version": stored.version,
        "document": stored.document.decode(),
        "disabled": stored.disabled,
        "set": rfc3339(stored.set_at),
        "set_by": stored.set_by,
    }
    approvals = [
        {"purpose": one.purpose, "operator": one.operator, "expires": rfc3339(one.expires)} for one in in_force
    ]
    return {**secret_json(entry), "conditions": conditions, "approvals": approvals, "disk": disk}


def set_conditions(database: Database, path: ResourcePath, document: bytes, by: By) -> int:
    """Put conditions in force for ``path``; returns their version. An empty document asks for nothing.

    Raises ConfigInvalid, ApprovalMissing where the present ones ask for approval of a change.
    """
    parse_conditions(document)
    with database.write() as tx:
        before = grants.current(tx, path)
        need_approval(tx, path, CHANGE, by.now)
        disabled = before is not None and before.disabled
        version = grants.put(tx, path, document, disabled=disabled, now=by.now, actor=str(by.actor))
        body = {"version": version, "document": document.decode()}
        append(tx, Event(by.now, CONDITIONS_SET, str(path), "in force", by.actor, body))
    return version


def set_disabled(database: Database, path: ResourcePath, disabled: bool, reason: str, by: By) -> None:
    """Stop every release of ``path``, or allow it again. Raises NotFound, RequestMalformed without a reason."""
    _check_reason(reason)
    with database.write() as tx:
        if secrets.sealed(tx, path) is None:
            raise NotFound(f"resource {path}: not found")
        if grants.current(tx, path) is None:
            grants.put(tx, path, b"", disabled=disabled, now=by.now, actor=str(by.actor))
        grants.set_disabled(tx, path, disabled)
        state = "disabled" if disabled else "enabled"
        append(tx, Event(by.now, RESOURCE_STATE, str(path), state, by.actor, {"reason": reason}))


class Approved(NamedTuple):
    """The number of the record, who of those who may approve have by now, and how many must."""

    record: int
    given: tuple[str, ...]
    need: int


def approve(database: Database, path: ResourcePath, purpose: str, minutes: int, by: By) -> Approved:
    """Approve ``purpose`` for some minutes.

    Raises RequestMalformed, ApprovalMissing for somebody the conditions do not name.
    """
    if purpose not in PURPOSES or not 0 < minutes <= MAX_MINUTES:
        raise RequestMalformed(f"approval: want {'|'.join(PURPOSES)} for 1..{MAX_MINUTES} minutes")
    with database.write() as tx:
        approval = approval_of(tx, path)
        if approval is None or by.actor.kind != "operator" or by.actor.name not in approval.of:
            raise ApprovalMissing(f"resource {path}: its conditions do not name {by.actor} as one who approves")
        record = _grant(tx, path, purpose, minutes, APPROVAL, by, {})
        given = approvers(tx, path, purpose, by.now) & set(approval.of)
        return Approved(record, tuple(sorted(given)), approval.need)


def break_glass(database: Database, path: ResourcePath, reason: str, minutes: int, by: By) -> int:
    """Waive time, number, approval and clones for some minutes; returns the record's number, which releases name.

    Raises RequestMalformed without a reason, NotFound.
    """
    _check_reason(reason)
    if not 0 < minutes <= MAX_BREAK_GLASS:
        raise RequestMalformed(f"break-glass: got {minutes} minutes, want 1..{MAX_BREAK_GLASS}")
    with database.write() as tx:
        if grants.current(tx, path) is None:
            raise NotFound(f"resource {path}: it has no conditions to waive")
        return _grant(tx, path, grants.BREAK_GLASS, minutes, BREAK_GLASS, by, {"reason": reason})


def export(database: Database, keys: MasterKeys, path: ResourcePath, reason: str, by: By) -> SecretBytes:
    """The value, for operators: needs conditions that name who approves, and their approvals, which it uses up.

    Raises RequestMalformed without a reason, ApprovalMissing, ResourceUnknown.
    """
    _check_reason(reason)
    with database.write() as tx:
        row = secrets.sealed(tx, path)
        if row is None:
            raise ResourceUnknown(f"resource {path}: not found")
        if row.source is not None:
            raise RequestMalformed(f"resource {path}: its value is kept elsewhere ({row.source}): export it there")
        if approval_of(tx, path) is None:
            raise ApprovalMissing(f"resource {path}: no conditions say who approves an export")
        by_whom = need_approval(tx, path, EXPORT, by.now)
        value = unseal(keys, path, row.version, Sealed(row.master_key_id, row.wrapped_key, row.ciphertext))
        body = {"version": row.version, "reason": reason, "approved_by": sorted(by_whom)}
        append(tx, Event(by.now, RESOURCE_EXPORT, str(path), "exported", by.actor, body))
    return value


def forget_vm(database: Database, vm: str, reason: str, by: By) -> int:
    """Let a VM that is watched for clones come up on another machine; returns how many launches were known."""
    _check_reason(reason)
    with database.write() as tx:
        known = grants.forget(tx, vm)
        if not known:
            raise NotFound(f"VM {vm[:80]!r}: no launch of it is on record")
        append(tx, Event(by.now, VM_FORGET, vm, "forgotten", by.actor, {"reason": reason, "launches": known}))
    return known


def _grant(tx: Connection, path: str, purpose: str, minutes: int, kind: str, by: By, body: dict[str, object]) -> int:
    expires = by.now + timedelta(minutes=minutes)
    event = Event(by.now, kind, path, purpose, by.actor, {"expires": expires, **body})
    number = append(tx, event)
    grants.approve(tx, path, StoredApproval(number, purpose, by.actor.name, by.now, expires))
    return number


def _check_reason(reason: str) -> None:
    if not 0 < len(reason.strip()) <= MAX_REASON:
        raise RequestMalformed(f"reason: want 1 to {MAX_REASON} characters: it goes on record")
