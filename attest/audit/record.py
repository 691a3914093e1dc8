"""Audit records: what happened, who did it, and everything needed to come to the same decision again.

A record is one canonical JSON object, schema ``cvm.audit/1``. It carries its number and the SHA-256 of the record
before it (32 zero bytes for the first), so an altered or removed record no longer fits the next one. What it cannot
show by itself is that the *newest* records were cut off: note the head (number and digest) somewhere else, ``attest
audit verify --head`` compares it. Raw evidence, endorsements, policies and reference values are named by SHA-256 and
kept as blobs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from attest.audit.canonical import Json, canonical, rfc3339, written

SCHEMA = "cvm.audit/1"

DECISION = "decision"
RELEASE = "release"
REFUSED_RELEASE = "release-refused"
RESOURCE_PUT = "resource-put"
RESOURCE_DELETE = "resource-delete"
RESOURCE_EXPORT = "resource-export"
RESOURCE_STATE = "resource-state"
CONDITIONS_SET = "conditions-set"
APPROVAL = "approval"
BREAK_GLASS = "break-glass"
VM_FORGET = "vm-forget"
KEYS_REWRAP = "keys-rewrap"
KEY_ROTATION = "key-rotation"
LUKS_HEADER = "luks-header"
REFERENCE_ADD = "reference-add"
REFERENCE_RETIRE = "reference-retire"
REFERENCE_PROMOTE = "reference-promote"
POLICY_APPLY = "policy-apply"
LAUNCH = "launch"
LAUNCH_END = "launch-end"
HOST_ADD = "host-add"
HOST_RETIRE = "host-retire"
COLLATERAL_CHANGE = "collateral-change"
COLLATERAL_LOAD = "collateral-load"
KEYS_CHANGE = "keys-change"
ROLES_CHANGE = "roles-change"
SETTINGS_CHANGE = "settings-change"
NOTICED = (COLLATERAL_CHANGE, KEYS_CHANGE, ROLES_CHANGE, SETTINGS_CHANGE)
"""What the service stands on, put on record by looking."""
BACKUP = "backup"
RESTORE = "restore"
TOKEN_KEY = "token-key"  # noqa: S105  # the name of an event
TOKEN_REVOKE = "token-revoke"  # noqa: S105  # the name of an event


@dataclass(frozen=True, slots=True)
class Actor:
    """Who caused a record: ``guest`` (name empty), ``operator`` (by client certificate or bearer token), ``local`` (a
    user's shell), ``host`` (by the name its key is registered under) or ``service`` (a replica, of what it noticed
    itself). An ``auditor`` asks and causes none.

    ``issuer`` and ``subject`` are those of a bearer token; a subject is never given to somebody else, a name may be.
    ``groups`` are the values of its role claim: they say what somebody may do now, and are not on record.
    """

    kind: str
    name: str = ""
    certificate_sha256: str = ""
    issuer: str = ""
    subject: str = ""
    groups: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else self.kind


GUEST = Actor("guest")


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. ``body`` is plain data as :func:`attest.audit.canonical.plain` takes it."""

    time: datetime
    kind: str
    subject: str
    outcome: str
    actor: Actor
    body: Mapping[str, object] = field(default_factory=dict)

    def record(self, seq: int, previous: bytes) -> bytes:
        """The canonical bytes of record number ``seq`` after the record whose SHA-256 is ``previous`` (32 bytes)."""
        return self.encoder()(seq, previous)

    def encoder(self) -> Callable[[int, bytes], bytes]:
        """:meth:`record` with all that does not depend on the place in the log written already.

        Places are given out one after the other; what is written here can be written while others wait for theirs.
        """
        before = {"actor": _actor(self.actor), "body": self.body, "kind": self.kind, "outcome": self.outcome}
        after: Json = {"subject": self.subject, "time": rfc3339(self.time)}
        # Members stand in the order of their names: previous, schema and seq come between these two.
        head, tail = canonical(before)[:-1], written(after)[1:]

        def record(seq: int, previous: bytes) -> bytes:
            return b'%b,"previous":"%b","schema":"%b","seq":%d,%b' % (
                head, previous.hex().encode(), SCHEMA.encode(), seq, tail,
            )  # fmt: skip

        return record


def _actor(actor: Actor) -> dict[str, object]:
    """Of a bearer token also whose it is, so that records of others stay what they were."""
    found: dict[str, object] = {
        "kind": actor.kind,
        "name": actor.name,
        "certificate_sha256": actor.certificate_sha256,
    }
    return {**found, "bearer": {"issuer": actor.issuer, "subject": actor.subject}} if actor.issuer else found
