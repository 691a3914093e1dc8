"""The rules in force: policy document and reference values, read together and kept until either changes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from attest.audit.canonical import canonical
from attest.broker.errors import ServiceMisconfigured
from attest.keys.statement import POLICY, Signers, unwrap
from attest.store import blobs, rules
from attest.store.engine import Database
from attest.store.rules import StoredReference
from policy.document import PolicyDocument, parse_policy
from policy.reference import ReferenceValue, reference_from_bytes


@dataclass(frozen=True, slots=True)
class Rules:
    """What a decision is made by. The digests name blobs, so that an audit record can name the rules exactly."""

    generation: int
    policy_sha256: bytes
    document: PolicyDocument
    references: tuple[ReferenceValue, ...]
    references_sha256: bytes


class RulesInForce:
    """Gives the current :class:`Rules`; parses only after a change. One per process.

    Where signers are configured, the policy's signatures are verified whenever it is read: whoever can write to the
    database only cannot put a policy in force.
    """

    def __init__(self, database: Database, signers: Signers | None = None) -> None:
        self._database = database
        self._signers = signers or Signers()
        self._last: Rules | None = None

    def current(self) -> Rules:
        """Raises ServiceMisconfigured while no policy is in force, SignatureRefused, StoreUnavailable."""
        with self._database.read() as tx:
            return self.within(tx)

    def within(self, tx: Connection) -> Rules:
        """As :meth:`current`, as one transaction sees them."""
        last = self._last
        if last is None or last.generation != rules.generation(tx):
            last = self._last = load(tx, self._signers)
        return last  # not what another thread put there meanwhile


def active_document(tx: Connection) -> bytes:
    """The bytes of the policy in force. Raises ServiceMisconfigured where there is none."""
    digest = rules.active_policy(tx)
    data = None if digest is None else blobs.get(tx, digest)
    if data is None:
        raise ServiceMisconfigured("policy: none in force", hint="attest policy apply FILE")
    return data


def load(tx: Connection, signers: Signers) -> Rules:
    """Read and parse the rules in force."""
    data = active_document(tx)
    digest = hashlib.sha256(data).digest()
    signature = rules.active_signature(tx)
    beside = None if signature is None else blobs.get(tx, signature)
    signers.check(unwrap(data, POLICY, beside), POLICY, "policy in force")
    stored = rules.active_references(tx)
    return Rules(
        generation=rules.generation(tx),
        policy_sha256=digest,
        document=parse_policy(data),
        references=tuple(reference_from_bytes(entry.document) for entry in stored),
        references_sha256=hashlib.sha256(reference_set(stored)).digest(),
    )


def reference_set(stored: Sequence[StoredReference]) -> bytes:
    """The list of reference values a decision is made with: names and document digests, in canonical JSON."""
    return canonical([{"name": entry.name, "sha256": hashlib.sha256(entry.document).digest()} for entry in stored])


def remember_set(tx: Connection) -> None:
    """Keep the present reference set and its documents as blobs; called in every transaction that changes it."""
    stored = rules.active_references(tx)
    for entry in stored:
        blobs.put(tx, entry.document)
    blobs.put(tx, reference_set(stored))
