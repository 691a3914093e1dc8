"""The policy in force with other Rego: what the administration calls of Trustee's own client change.

A document is a file that people write; the service adds one marked block at its end and replaces it as a whole, so that
everything else stays byte for byte what it was. Where policies have to be signed, nothing is changed here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from attest.broker.errors import RequestMalformed, RequestUnsupported
from attest.broker.operations import By
from attest.broker.policies import apply_policy
from attest.broker.rego_engine import HERE, Question, RegoFailed, available
from attest.broker.rules import active_document
from attest.keys.statement import Signers
from attest.store.engine import Database
from attest.store.errors import AlreadyExists
from policy.document import PolicyDocument, parse_policy
from policy.rego_rules import RegoRules, rego_problem, split_rego, with_rego_block
from policy.strictjson import strict_json


@dataclass(frozen=True, slots=True)
class Rego:
    """Where the rules live, and whose signatures policies need."""

    database: Database
    signers: Signers

    def current(self) -> RegoRules:
        """What is in force; empty where the policy has no Rego. Raises ServiceMisconfigured without a policy."""
        return parse_policy(self._active()).rego or RegoRules()

    def set_attestation(self, text: str, by: By) -> PolicyDocument:
        """Put ``text`` in force as the attestation policy.

        Raises RequestUnsupported without an engine, RequestMalformed for what is no Rego, PolicyInvalid, AlreadyExists.
        """
        _check(text)
        return self._change(lambda rules: replace(rules, attestation=text), by)

    def set_resource(self, text: str, by: By) -> PolicyDocument:
        """As :meth:`set_attestation`, for the resource policy."""
        _check(text)
        return self._change(lambda rules: replace(rules, resource=text), by)

    def add_values(self, values: Mapping[str, Any], by: By) -> PolicyDocument:
        """Add reference values, or replace those of the same names. They mean something to an attestation policy only:
        without one RequestUnsupported is raised, for nobody would look at them.
        """
        if self.current().attestation is None:
            raise RequestUnsupported(
                "reference-value: these values are for an attestation policy in Rego, and none is in force: set it "
                "first; launch digests are registered with attest reference add"
            )
        return self._change(lambda rules: replace(rules, reference_values={**rules.reference_values, **values}), by)

    def _change(self, change: Callable[[RegoRules], RegoRules], by: By) -> PolicyDocument:
        if self.signers.keys:
            raise RequestUnsupported(
                "policy: it must be signed ([policy] signers), which a client cannot do: write [rego] into the file, "
                "sign it, and use attest policy apply"
            )
        data = self._active()
        rest, marked = split_rego(data)
        if not marked and parse_policy(data).rego is not None:
            raise AlreadyExists("policy: the file itself has a table [rego]: change it there, then attest policy apply")
        rules = change(parse_policy(data).rego or RegoRules())
        return apply_policy(self.database, with_rego_block(rest, rules), by, self.signers, instead_of=data)

    def _active(self) -> bytes:
        with self.database.read() as tx:
            return active_document(tx)


def sample_values(payload: bytes) -> dict[str, Any]:
    """The values of a message of type ``sample``: a JSON object, value by name. Raises RequestMalformed."""
    found = strict_json(payload, "reference-value: payload", error=RequestMalformed)
    if not isinstance(found, dict) or not found or not all(0 < len(name) <= 200 for name in found):
        raise RequestMalformed("reference-value: payload: want a JSON object, value by name")
    return found


def values_json(rules: RegoRules, name: str | None = None) -> str | None:
    """All values as JSON, or that of ``name``; ``None`` where there is none."""
    if name is None:
        return json.dumps(dict(rules.reference_values))
    return json.dumps(rules.reference_values[name]) if name in rules.reference_values else None


def _check(text: str) -> None:
    if not available():
        raise RequestUnsupported(
            "policy: this service has no engine for Rego (extra rego): it would refuse every guest",
            code="rego.absent",
        )
    if (problem := rego_problem(text)) is not None:
        raise RequestMalformed(f"policy: {problem}")
    try:
        HERE.evaluate(Question(text, "1", {}, {}))
    except RegoFailed as exc:
        raise RequestMalformed(f"policy: {exc.message}") from None
