"""The rules in force: policy document and reference values, read together and kept until either changes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from attest.audit.canonical import canonical
from attest.broker.errors import ServiceMisconfigured
from attest.keys.statement import POLICY, Signers, unwrap
from attest.store import blobs, rules
from attest.store.engine import Database
from attest.store.rules import StoredReference
from policy.document import PolicyDocument, parse_policy
from policy.reference import ReferenceValue, reference_from_bytes
from policy.reference_set import ReferenceSet
from policy.stage import stage_json


@dataclass(frozen=True, slots=True)
class Rules:
    """What a decision is made by. The digests name blobs, so that an audit record can name the rules exactly.
    ``parsed`` are the reference values by the SHA-256 of their documents.
    """

    generation: int
    policy_sha256: bytes
    document: PolicyDocument
    references: ReferenceSet
    references_sha256: bytes
    parsed: Mapping[bytes, ReferenceValue] = field(default_factory=dict, repr=False)


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

    def at(self, generation: int) -> Rules:
        """Those of ``generation``, which was just read: nothing is asked again where they are known, and where others
        came into force meanwhile, those. Raises as :meth:`current`.
        """
        last = self._last
        return last if last is not None and last.generation == generation else self.current()

    def within(self, tx: Connection) -> Rules:
        """As :meth:`current`, as one transaction sees them."""
        return self.of_generation(tx, rules.generation(tx))

    def of_generation(self, tx: Connection, generation: int) -> Rules:
        """The rules in force, which ``tx`` has seen to be of this generation."""
        last = self._last
        if last is None or last.generation != generation:
            last = self._last = load(tx, self._signers, last)
        return last  # not what another thread put there meanwhile


def active_document(tx: Connection) -> bytes:
    """The bytes of the policy in force. Raises ServiceMisconfigured where there is none."""
    digest = rules.active_policy(tx)
    data = None if digest is None else blobs.get(tx, digest)
    if data is None:
        raise ServiceMisconfigured("policy: none in force", hint="attest policy apply FILE")
    return data


def load(tx: Connection, signers: Signers, before: Rules | None = None) -> Rules:
    """Read and parse the rules in force; reference values that were parsed ``before`` are not parsed again."""
    data = active_document(tx)
    digest = hashlib.sha256(data).digest()
    signature = rules.active_signature(tx)
    beside = None if signature is None else blobs.get(tx, signature)
    signers.check(unwrap(data, POLICY, beside), POLICY, "policy in force")
    stored = rules.active_references(tx)
    parsed = _parsed(stored, before)
    return Rules(
        generation=rules.generation(tx),
        policy_sha256=digest,
        document=parse_policy(data),
        references=ReferenceSet(parsed.values()),
        parsed=parsed,
        references_sha256=hashlib.sha256(reference_set(stored)).digest(),
    )


def _parsed(stored: Sequence[StoredReference], before: Rules | None) -> dict[bytes, ReferenceValue]:
    """By the SHA-256 of their documents, in order."""
    known = {} if before is None else before.parsed
    found = {}
    for entry in stored:
        digest = hashlib.sha256(entry.document).digest()
        value = known.get(digest) or reference_from_bytes(entry.document)
        found[digest] = value if value.stage == entry.stage else value._replace(stage=entry.stage)
    return found


def parse_stored(entry: StoredReference) -> ReferenceValue:
    """A stored value with its stage."""
    return reference_from_bytes(entry.document)._replace(stage=entry.stage)


def reference_set(stored: Sequence[StoredReference]) -> bytes:
    """The list of reference values a decision is made with: names, document digests, and stages where there are some,
    in canonical JSON.
    """
    return canonical([_set_entry(entry) for entry in stored])


def _set_entry(entry: StoredReference) -> dict[str, object]:
    found: dict[str, object] = {"name": entry.name, "sha256": hashlib.sha256(entry.document).digest()}
    return found if entry.stage is None else found | {"stage": stage_json(entry.stage)}


def remember_set(tx: Connection, added: bytes | None = None) -> None:
    """Keep the present reference set, and the document that was ``added`` to it, as blobs; called in every transaction
    that changes the set.
    """
    if added is not None:
        blobs.put(tx, added)
    blobs.put(tx, reference_set(rules.active_references(tx)))
