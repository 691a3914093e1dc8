"""Releasing a resource to a guest whose attestation was accepted.

1. The session or token names a decision of ours that has neither expired nor been revoked.
2. The decision was made under the rules in force now; otherwise the guest must attest again. A reference value that it
   rests on has not retired since, and one that is not promoted yet has releases left for its canary.
3. The decision is affirming.
4. The resource exists.
5. The resource is meant for this guest: one of the reference values it matched, where the resource names any.
   Where the guest's init-data lists resources, this is one of them.
6. The resource is not disabled, and its release conditions hold; a resource policy in Rego, where there is one, allows.
7. The value is opened and encrypted to the key the decision is about (not to a key the request brings).
8. The audit record is on stable storage, and the release is counted. Only then is anything returned.

All of it in one writing transaction, which other guests of this worker may share: no rule can change and no resource
can be replaced in between.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from attest.audit.chain import parse_record
from attest.audit.facts import Facts
from attest.audit.record import GUEST, REFUSED_RELEASE, RELEASE, Event
from attest.broker import rotation
from attest.broker.conditions import Verdict, judge, remember
from attest.broker.errors import AccessDenied, ResourceUnknown, ServiceMisconfigured, SessionRefused, TokenRefused
from attest.broker.evidence_record import RESULT
from attest.broker.guest_facts import facts_from_text
from attest.broker.jwe import encrypt
from attest.broker.jwk import parse_tee_pubkey
from attest.broker.rego_judge import resource_refused
from attest.broker.rotation import HeaderReport
from attest.broker.service import Service
from attest.broker.stages import count_canary, retired, staged
from attest.broker.token import token_id_of
from attest.broker.trail import append
from attest.keys.envelope import Sealed, unseal
from attest.keys.errors import KeyUnavailable
from attest.keys.kv import SOURCE, read_secret, stored_place
from attest.store import blobs, decisions, records, rules, secrets, sessions
from attest.store.decisions import StoredDecision
from attest.store.secrets import SealedRow
from policy.decide import AFFIRMING
from policy.release_conditions import GuestFacts
from policy.secret import SecretBytes
from policy.vocab import ResourcePath


@dataclass(frozen=True, slots=True)
class Credential:
    """What a guest shows: the cookie of its session, or a token (``Authorization: Bearer``). The cookie goes first."""

    session_id: str | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """One request; ``token_id`` is that of the token shown, once it was checked. ``opened`` are values, by version,
    that took a network to open.
    """

    shown: Credential
    token_id: str | None
    path: ResourcePath
    now: datetime
    disk: bool = False
    opened: Mapping[int, SecretBytes] = field(default_factory=dict)


def release(
    service: Service, shown: Credential, path: ResourcePath, now: datetime, *, disk: bool = False
) -> dict[str, Any]:
    """The JWE members of the resource; ``disk``: and ``cvm-disk`` where it is a disk's key, for agents that ask for it.

    Raises SessionRefused, TokenRefused, AccessDenied, ResourceUnknown.
    """
    asked = Asked(shown, _token_of(service, shown, now), path, now, disk)
    if service.master_keys.remote or service.vault is not None:
        asked = replace(asked, opened=_opened_ahead(service, asked))
    released = service.writes.run(lambda tx: _release(tx, service, asked))
    if isinstance(released, AccessDenied):
        raise released
    return released


def report_header(service: Service, session_id: str, path: ResourcePath, said: HeaderReport, now: datetime) -> str:
    """A guest's report on its disk's header, from a session that may get the key; the state then.

    No token will do: the guest shows it to others, who could have the key erased that opens the disk. What a release
    gives opens for the guest alone. Raises as :func:`release`, and RotationState.
    """
    asked = Asked(Credential(session_id), None, path, now)
    return service.writes.run(lambda tx: _report(tx, asked, said))


def _release(tx: Connection, service: Service, asked: Asked) -> dict[str, Any] | AccessDenied:
    """What goes out, or the refusal, which is on record as well."""
    decision, path, now = _decision_in_force(tx, asked), asked.path, asked.now
    row, facts = secrets.sealed(tx, path), facts_from_text(decision.facts)
    values = staged(service.rules.of_generation(tx, decision.generation), decision)
    refusal = _refusal(decision, path, row, facts) or retired(decision, values, now)
    about = records.facts(tx, decision.id)
    verdict = judge(tx, path, facts, now) if refusal is None and row is not None else None  # (6)
    if refusal is None and verdict is not None and verdict.failed:
        refusal = _conditions_fail(path, decision, verdict.failed)
    said = None if refusal is not None or row is None else _resource_policy(service, tx, decision, path)
    if said is not None:
        refusal = _rego_denies(path, decision)
    if refusal is None and verdict is not None:
        refusal = count_canary(tx, decision, values)
    if refusal is not None:
        why: dict[str, object] = {"reasons": refusal.reasons, **({} if said is None else {"rego": said})}
        append(tx, _event(REFUSED_RELEASE, "denied", path, decision, now, why, about))
        return refusal
    if row is None or verdict is None:  # (4)
        raise ResourceUnknown(f"resource {path}: not found")
    answer = _wrap(service, asked, row, decision)  # (7)
    body = {"version": row.version, "tee_pubkey": json.loads(decision.tee_pubkey), **_remarks(facts, verdict)}
    if asked.disk:
        body |= _disk(service, tx, asked, row, decision, answer)
    number = append(tx, _event(RELEASE, "released", path, decision, now, body, about))  # (8)
    remember(tx, number, path, facts, verdict, now)
    return answer


def _opened_ahead(service: Service, asked: Asked) -> dict[int, SecretBytes]:
    """Values and master keys on other machines, opened before the transaction that others wait for.

    Only for a guest that would get them as things stand; the transaction judges again, and what changed meanwhile is
    asked for anew. Raises KeyUnavailable, SealBroken.
    """
    with service.database.read() as tx:
        decision, row = _decision_in_force(tx, asked), secrets.sealed(tx, asked.path)
        facts = facts_from_text(decision.facts)
        if row is None or _refusal(decision, asked.path, row, facts) or judge(tx, asked.path, facts, asked.now).failed:
            return {}
        waiting = secrets.pending(tx, asked.path) if asked.disk else None
    rows = [one for one in (row, waiting) if one is not None and _elsewhere(service, one)]
    return {one.version: _open(service, asked.path, one) for one in rows}


def _report(tx: Connection, asked: Asked, said: HeaderReport) -> str:
    decision = _decision_in_force(tx, asked)
    refusal = _refusal(decision, asked.path, secrets.sealed(tx, asked.path), facts_from_text(decision.facts))
    if refusal is not None:
        raise refusal
    return rotation.report(tx, asked.path, said, decision, asked.now)


def _token_of(service: Service, shown: Credential, now: datetime) -> str | None:
    """The id of the token shown. Raises TokenRefused."""
    return None if shown.token is None else token_id_of(service.signing_keys, service.token, shown.token, now=now)


def _decision_in_force(tx: Connection, asked: Asked) -> StoredDecision:
    """(1) and (2). Raises SessionRefused, TokenRefused."""
    decision = _decision(tx, asked.shown.session_id, asked.token_id)
    if decision is None or asked.now >= decision.expires:
        raise _unauthorised(asked.shown)
    if decision.revoked is not None:
        raise TokenRefused("an operator revoked this attestation: attest again", code="token.revoked")
    if decision.generation != rules.generation(tx):
        raise TokenRefused("the rules have changed since this attestation: attest again", code="token.outdated")
    return decision


def _decision(tx: Connection, session_id: str | None, token_id: str | None) -> StoredDecision | None:
    session = None if session_id is None else sessions.find(tx, session_id)
    if session is not None and session.decision is not None:
        return decisions.get(tx, session.decision)
    return None if token_id is None else decisions.by_token(tx, token_id)


def _unauthorised(shown: Credential) -> SessionRefused | TokenRefused:
    if shown.token is not None:
        return TokenRefused("token: its decision is unknown or expired: attest again", code="token.expired")
    return SessionRefused("session: no attestation was accepted in it, or it expired: attest", code="session.expired")


def _remarks(facts: GuestFacts, verdict: Verdict) -> dict[str, Any]:
    """What else the record of a release says: who the guest is by its init-data, what was waived or noticed."""
    found = {
        "identity": {"vm": facts.vm, "service": facts.service} if facts.vm or facts.service else None,
        "conditions": verdict.version,
        "break_glass": verdict.history.break_glass,
        "clone_signs": list(verdict.signs) or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _conditions_fail(path: ResourcePath, decision: StoredDecision, failed: tuple[str, ...]) -> AccessDenied:
    return AccessDenied(
        f"access denied by policy: conditions of resource {path} do not hold (decision {decision.id})",
        decision=decision.id,
        reasons=failed,
    )


def _rego_denies(path: ResourcePath, decision: StoredDecision) -> AccessDenied:
    return AccessDenied(
        f"access denied by policy: the resource policy does not release {path} (decision {decision.id})",
        decision=decision.id,
        reasons=("rego.resource",),
    )


def _resource_policy(service: Service, tx: Connection, decision: StoredDecision, path: ResourcePath) -> str | None:
    """Why the resource policy in Rego says no, for the record; ``None`` where it allows or there is none."""
    document = service.rules.of_generation(tx, decision.generation).document  # it is the one in force, by (2)
    if document.rego is None or document.rego.resource is None:
        return None
    stored = records.get(tx, decision.id)
    body: Any = {} if stored is None else parse_record(stored.record, f"audit record {decision.id}")["body"]
    data = blobs.get(tx, bytes.fromhex(body[RESULT])) if RESULT in body else None
    if data is None:
        raise ServiceMisconfigured(f"audit record {decision.id}: the attestation result it names is gone")
    return resource_refused(document, path, json.loads(data), service.token.issuer)


def _refusal(
    decision: StoredDecision, path: ResourcePath, row: SealedRow | None, facts: GuestFacts
) -> AccessDenied | None:
    """(3) and (5)."""
    if decision.status != AFFIRMING:  # (3)
        return AccessDenied(
            f"access denied by policy: decision {decision.id} is {decision.status}",
            decision=decision.id,
            reasons=("ear.status",),
        )
    if row is not None and row.only_for is not None and not set(row.only_for) & set(decision.references):  # (5)
        return AccessDenied(
            f"access denied by policy: resource {path} is not for this guest (decision {decision.id})",
            decision=decision.id,
            reasons=("resource.only-for",),
        )
    if facts.resources is not None and path not in facts.resources:
        return AccessDenied(
            f"access denied by policy: the VM's init-data does not list resource {path} (decision {decision.id})",
            decision=decision.id,
            reasons=("identity.resources",),
        )
    return None


def _wrap(service: Service, asked: Asked, row: SealedRow, decision: StoredDecision) -> dict[str, Any]:
    value = asked.opened.get(row.version)
    if value is None and _elsewhere(service, row):
        raise KeyUnavailable(f"resource {asked.path}: changed while it was opened: ask again", code="keys.changed")
    value = value or _open(service, asked.path, row)
    wrapped = encrypt(parse_tee_pubkey(json.loads(decision.tee_pubkey)), value, random=service.random)
    value.wipe()
    return dict(wrapped)


def _elsewhere(service: Service, row: SealedRow) -> bool:
    """Whether opening it takes a network."""
    return row.source is not None or service.master_keys.get(row.master_key_id).remote


def _open(service: Service, path: ResourcePath, row: SealedRow) -> SecretBytes:
    value = unseal(service.master_keys, path, row.version, Sealed(row.master_key_id, row.wrapped_key, row.ciphertext))
    if row.source is None:
        return value
    if row.source != SOURCE or service.vault is None:
        raise KeyUnavailable(
            f"resource {path}: kept in {row.source!r}, no such server is configured", code="keys.source"
        )
    return read_secret(service.vault, stored_place(value))


def _disk(
    service: Service,
    tx: Connection,
    asked: Asked,
    row: SealedRow,
    decision: StoredDecision,
    answer: dict[str, Any],
) -> dict[str, Any]:
    """Put what goes with a disk's key into ``answer``; what the record says of it."""
    offer = rotation.offer(tx, asked.path, row, decision)
    if offer is None:
        return {}
    if offer.row is not None:
        offer.member["next"]["key"] = _wrap(service, asked, offer.row, decision)
    answer["cvm-disk"] = offer.member
    return {} if offer.row is None else {"next_version": offer.row.version}


def _event(
    kind: str,
    outcome: str,
    path: ResourcePath,
    decision: StoredDecision,
    now: datetime,
    body: dict[str, object],
    about: Facts,
) -> Event:
    """The record names the chip and the measurement of its decision, so that a release is found by them too."""
    named = {
        "decision": decision.id,
        "token_id": decision.token_id,
        "emulated": decision.emulated,
        "chip": about.chip,
        "measurement": about.measurement,
        "vm": about.vm,
    }
    return Event(now, kind, str(path), outcome, GUEST, {**named, **body})
