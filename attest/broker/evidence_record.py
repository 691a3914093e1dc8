"""The body of a decision's audit record: all that is needed to decide again, bytes by digest, nothing secret."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from attest.audit.canonical import canonical
from attest.broker.appraise import Found, matching
from attest.broker.case import Case
from attest.broker.rego_input import result_claims
from policy.claims import TeeClaims, claims_json
from policy.decide import Decision
from policy.explain import decision_json, summary
from policy.reference import ReferenceValue

HASH = "sha384"
RECEIVED = "received_sha256"
RESULT = "result"


def keep(put: Callable[[bytes], bytes], case: Case, found: Mapping[str, Any]) -> dict[str, Any]:
    """``put`` the bytes the decision rests on and return the body that names them. ``found`` are its :func:`findings`.
    ``matched`` are the names of the reference values the guest equals; ``peer`` is the address the connection came
    from, which is a balancer's where there is one.
    """
    request = case.request
    return {
        "tee": case.tee,
        "evidence": _evidence(put, case),
        "binding": {
            "hash": HASH,
            "nonce": request.nonce,
            "tee_pubkey": request.tee_pubkey.members,
            "additional_evidence": request.additional_evidence,
            "init_data": None if request.init_data is None else put(request.init_data.text.encode()),
            "report_data": case.bound.report_data,
            "init_data_digest": case.bound.init_data,
        },
        "rules": {
            "generation": case.rules.generation,
            "policy": case.rules.policy_sha256,
            "references": case.rules.references_sha256,
        },
        "matched": matched(case.found, case.rules.references, case.now, case.bound.vm),
        "peer": case.peer,
        **_result(put, case),
        **found,
    }


def _result(put: Callable[[bytes], bytes], case: Case) -> dict[str, bytes]:
    """What a resource policy in Rego will look at when the guest asks for a resource, where there is one."""
    rego, found = case.rules.document.rego, case.found
    if rego is None or rego.resource is None or found.claims is None or found.decision is None:
        return {}
    runtime = {"nonce": case.request.nonce, "tee-pubkey": case.request.tee_pubkey.members}
    claims = result_claims(found.claims.tee, found.decision, runtime)
    return {RESULT: put(canonical(claims))}


def matched(found: Found, references: Sequence[ReferenceValue], now: datetime, vm: str | None) -> list[str]:
    """Names of the reference values in force that a verified guest equals."""
    return [] if found.claims is None else list(matching(found.claims, references, now, vm))


def brief_claims(claims: TeeClaims) -> dict[str, object]:
    """The claims, an event log by its digest: it may have thousands of events, and its bytes are kept as evidence."""
    found = claims_json(claims)
    events = found.get("events")
    if isinstance(events, list):
        found["events"] = {"count": len(events), "sha256": hashlib.sha256(canonical(events)).hexdigest()}
    return found


def findings(
    found: Found,
    *,
    claims: Callable[[TeeClaims], object] = brief_claims,
    decision: Callable[[Decision], object] = decision_json,
) -> dict[str, Any]:
    """What was found: the part of the record that repeating the decision must give again; ``claims`` and ``decision``
    say in what form.
    """
    failure = found.failure
    return {
        "claims": None if found.claims is None else claims(found.claims.tee),
        "platform": None if found.claims is None else found.claims.platform.value,
        "emulated": None if found.claims is None else found.claims.emulated,
        "decision": None if found.decision is None else decision(found.decision),
        "failure": None if failure is None else {"code": failure.code, "message": failure.message},
        "summary": _summary(found),
    }


def _summary(found: Found) -> str:
    if found.failure is not None:
        return f"{found.outcome}: {found.failure.message}"[:500]
    return found.outcome if found.decision is None else summary(found.decision)


def _evidence(put: Callable[[bytes], bytes], case: Case) -> Mapping[str, Any]:
    """Bytes are kept once they are evidence; of anything else the digest of what was received."""
    if case.presented is None:
        received = canonical(_without_floats(case.request.evidence))
        return {RECEIVED: hashlib.sha256(received).digest(), "received_bytes": len(received)}
    return case.presented.keep(put)


def _without_floats(value: object) -> object:
    """Unreadable evidence may hold any JSON; audit records hold no fractions, so those are hashed as text."""
    if isinstance(value, dict):
        return {name: _without_floats(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_without_floats(member) for member in value]
    return repr(value) if isinstance(value, float) else value
