"""The policy over time: putting one in force, what was in force when, going back to an earlier one.

A version is the record of the change: the n-th change is version n. So the history needs no table of its own, cannot be
rewritten, and every version's bytes and signatures are there for as long as the audit log is.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from attest.audit.canonical import rfc3339
from attest.audit.chain import parse_record
from attest.audit.record import POLICY_APPLY, Event
from attest.broker.errors import ServiceMisconfigured
from attest.broker.operations import By
from attest.broker.rules import remember_set
from attest.broker.trail import append
from attest.keys.statement import POLICY, SignatureRefused, Signed, Signers, envelope, unwrap
from attest.store import blobs, records, rules
from attest.store.engine import Database
from attest.store.errors import AlreadyExists, NotFound
from policy.document import PolicyDocument, parse_policy


@dataclass(frozen=True, slots=True)
class Version:
    """One change of the policy. ``record`` is the audit record's number, ``signature`` a blob's digest."""

    number: int
    record: int
    time: datetime
    name: str
    sha256: bytes
    signature: bytes | None
    actor: str
    signed_by: tuple[str, ...]
    rollback_to: int | None
    active: bool

    @property
    def over_the_service(self) -> bool:
        """Whether an operator asked the service for it, and nobody on its machine."""
        return self.actor.startswith("operator:")


def apply_policy(
    database: Database,
    data: bytes | Signed,
    by: By,
    signers: Signers | None = None,
    *,
    rollback_to: int | None = None,
    instead_of: bytes | None = None,
) -> PolicyDocument:
    """Put a policy (or an envelope of one) in force, as a whole or not at all.

    Raises PolicyInvalid with every problem, SignatureRefused. Applying the one in force changes nothing; its signatures
    on record then count where the file brings none. With ``instead_of``, only if that is in force: else AlreadyExists.
    """
    signed = data if isinstance(data, Signed) else unwrap(data, POLICY)
    document = parse_policy(signed.data)
    with database.write() as tx:
        previous, digest = rules.active_policy(tx), blobs.put(tx, signed.data)
        if instead_of is not None and previous != hashlib.sha256(instead_of).digest():
            raise AlreadyExists("policy: it was changed meanwhile: ask again")
        if digest == previous and not signed.signatures:
            signed = _with_signatures(tx, signed, rules.active_signature(tx))
        signed_by = (signers or Signers()).check(signed, POLICY, f"policy {document.name}")
        signature = blobs.put(tx, envelope(POLICY, signed, detached=True)) if signed.signatures else None
        if (digest, signature) != (previous, rules.active_signature(tx)):
            rules.set_policy(tx, digest, signature)
            remember_set(tx)
            body = {
                "policy": digest,
                "previous": previous,
                "roots": document.roots,
                "signature": signature,
                "signed_by": signed_by,
                "rollback_to": rollback_to,
            }
            append(tx, Event(by.now, POLICY_APPLY, document.name, "in force", by.actor, body))
    return document


def check_policy(database: Database, data: bytes, signers: Signers) -> dict[str, Any]:
    """What :func:`apply_policy` would say of a policy (or an envelope of one); nothing changes. Raises as it does."""
    signed = unwrap(data, POLICY)
    document = parse_policy(signed.data)
    with database.read() as tx:
        in_force = rules.active_policy(tx) == hashlib.sha256(signed.data).digest()
        if in_force and not signed.signatures:
            signed = _with_signatures(tx, signed, rules.active_signature(tx))
    signed_by = signers.check(signed, POLICY, f"policy {document.name}")
    return {
        "name": document.name,
        "emulated": document.emulated_allowed,
        "signed_by": list(signed_by),
        "in_force": in_force,
    }


def is_in_force(database: Database, data: bytes, signers: Signers) -> bool:
    """Whether these bytes are the policy in force and the signatures on record for them are good."""
    with database.read() as tx:
        if rules.active_policy(tx) != hashlib.sha256(data).digest():
            return False
        signed = _with_signatures(tx, Signed(data), rules.active_signature(tx))
    try:
        signers.check(signed, POLICY, "policy in force")
    except SignatureRefused:
        return False
    return True


def versions(tx: Connection) -> tuple[Version, ...]:
    """Every change on record, oldest first; the last is in force."""
    found = records.newest(tx, kind=POLICY_APPLY)
    return tuple(_version(number, entry, len(found)) for number, entry in enumerate(found, 1))


def version(tx: Connection, number: int | None = None) -> tuple[Version, Signed]:
    """Version ``number``, or the one in force, and its bytes. Raises NotFound, ServiceMisconfigured when the bytes are
    gone.
    """
    found = versions(tx)
    if number is None:
        if not found:
            raise NotFound("policy: none was ever in force", hint="attest policy apply FILE")
        number = len(found)
    if not 0 < number <= len(found):
        raise NotFound(f"policy version {number}: there are {len(found)}", hint="attest policy list")
    entry = found[number - 1]
    data = blobs.get(tx, entry.sha256)
    if data is None:
        raise ServiceMisconfigured(f"policy version {number}: its bytes {entry.sha256.hex()} are gone")
    return entry, _with_signatures(tx, Signed(data), entry.signature)


def version_json(entry: Version) -> dict[str, object]:
    """A version as JSON values."""
    return {
        "version": entry.number,
        "name": entry.name,
        "since": rfc3339(entry.time),
        "by": entry.actor,
        "signed_by": list(entry.signed_by),
        "rollback_to": entry.rollback_to,
        "record": entry.record,
        "sha256": entry.sha256.hex(),
        "in_force": entry.active,
    }


def version_in_force(tx: Connection, when: datetime) -> int | None:
    """The number of the version that was in force at ``when``."""
    return max((entry.number for entry in versions(tx) if entry.time <= when), default=None)


def _with_signatures(tx: Connection, signed: Signed, digest: bytes | None) -> Signed:
    beside = None if digest is None else blobs.get(tx, digest)
    return Signed(signed.data) if beside is None else unwrap(signed.data, POLICY, beside)


def _version(number: int, entry: records.StoredRecord, count: int) -> Version:
    record: Any = parse_record(entry.record, f"audit record {entry.seq}")
    body, actor = record["body"], record["actor"]
    signature = body.get("signature")
    return Version(
        number=number,
        record=entry.seq,
        time=entry.time,
        name=entry.subject,
        sha256=bytes.fromhex(body["policy"]),
        signature=None if signature is None else bytes.fromhex(signature),
        actor=f"{actor['kind']}:{actor['name']}",
        signed_by=tuple(body.get("signed_by", ())),
        rollback_to=body.get("rollback_to"),
        active=number == count,
    )
