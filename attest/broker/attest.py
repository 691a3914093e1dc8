"""From evidence to a token, or to a refusal that is on record.

1. The body parses, completely.
2. The nonce is consumed: exactly once, before anything is verified.
3. The evidence parses; its endorsements are what came with it and what the operator's collateral supplies.
4. It is verified and judged under the rules in force.
   A genuine chip that comes too often goes no further: its account is counted here, where nobody can forge it.
5. The decision, whatever it is, and everything it rests on are on stable storage.
6. Only then: a token, or an error that says no more than the guest may know.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import NoReturn

from sqlalchemy import Connection

from attest.audit.record import DECISION, GUEST, Event
from attest.broker import evidence_record
from attest.broker.appraise import Bound, Found, appraise, matching
from attest.broker.case import Case
from attest.broker.errors import AccessDenied, SessionRefused
from attest.broker.guest_facts import facts_of, facts_to_text
from attest.broker.limits import machine_of
from attest.broker.protocol import AttestRequest, parse_attest
from attest.broker.rules import Rules
from attest.broker.service import Service
from attest.broker.tees import TEES
from attest.broker.token import Issued, Subject, issue
from attest.broker.trail import draft
from attest.endorsement.errors import VerificationFailed
from attest.errors import AttestError
from attest.evidence.errors import EvidenceMalformed
from attest.store import decisions, records, sessions
from attest.store import rules as stored_rules
from attest.store.blobs import Kept
from attest.store.decisions import StoredDecision
from attest.store.sessions import Consumed, Session
from attest.verifier.binding import report_data_for

_TOKEN_ID_BYTES = 16
_REFUSALS = {
    Consumed.ALREADY: ("session.nonce-used", "nonce already used: a challenge is good for one attestation"),
    Consumed.EXPIRED: ("session.expired", "session expired: ask for a new challenge"),
    Consumed.OTHER_NONCE: ("session.other-nonce", "nonce is not the one this session was given"),
    Consumed.OTHER_VERSION: (
        "session.other-version",
        "body is not of the protocol version this session was opened with",
    ),
    Consumed.UNKNOWN_SESSION: ("session.unknown", "session unknown: ask for a challenge first"),
}


def attest(service: Service, session_id: str, body: bytes, now: datetime, peer: str | None = None) -> Issued:
    """Answer ``POST /attest``. ``peer`` is the address the guest's connection came from.

    Raises RequestMalformed, SessionRefused, EvidenceMalformed, AccessDenied, and errors of kind ``unavailable``.
    """
    request = parse_attest(body)  # (1)
    session, rules = consume_nonce(service, session_id, request, now)  # (2)
    request = replace(request, nonce=session.nonce)
    expected = report_data_for(session.nonce, request.tee_pubkey.members, request.additional_evidence)
    sent = request.init_data
    bound = Bound(expected, sent.digest, sent.identity.vm) if sent is not None else Bound(expected)
    case = replace(_examine(service, session.tee, request, bound, rules, now), peer=peer)  # (3) (4)
    if case.found.claims is not None:
        service.limits.chip.check(machine_of(case.found.claims.tee))
    number, issued = _record(service, session_id, case)  # (5)
    if issued is None:
        _refuse(case.found, number)  # (6)
    return issued


def consume_nonce(service: Service, session_id: str, request: AttestRequest, now: datetime) -> tuple[Session, Rules]:
    """Use up the session's nonce, or raise SessionRefused. Returns the session and the rules in force then."""

    def consume(tx: Connection) -> tuple[Consumed, Session | None, int]:
        outcome = sessions.consume(tx, session_id, request.nonce, now, request.version)
        return outcome, sessions.find(tx, session_id), stored_rules.generation(tx)

    # Durable with the decision's record at the latest: without that no token and no key has left.
    outcome, session, generation = service.writes.run(consume, lasting=False)
    if outcome is not Consumed.NOW or session is None:
        code, text = _REFUSALS[Consumed.UNKNOWN_SESSION if session is None else outcome]
        raise SessionRefused(text, code=code)
    return session, service.rules.at(generation)


def _examine(service: Service, tee: str, request: AttestRequest, bound: Bound, rules: Rules, now: datetime) -> Case:
    try:
        presented = TEES[tee].present(request.evidence, service.collateral, rules.document, bound.report_data, now)
    except EvidenceMalformed as exc:
        return Case(tee, request, bound, rules, now, Found(failure=exc))
    found = appraise(presented, bound, (rules.document, rules.references), now=now, memory=service.memory)
    return Case(tee, request, bound, rules, now, found, presented)


def _record(service: Service, session_id: str, case: Case) -> tuple[int, Issued | None]:
    """Write the decision and, for an accepted guest, what its token stands for. Returns the record's number."""
    found = evidence_record.findings(case.found)
    issued = _token(service, case, found["claims"])
    subject = case.presented.launch_digest.hex() if case.presented else "unreadable evidence"

    kept = Kept()
    body = evidence_record.keep(kept.add, case, found)
    body["token_id"] = issued.token_id if issued else None
    # All that needs no transaction comes before it: it holds up everybody else's.
    written = draft(Event(case.now, DECISION, subject, case.found.outcome, GUEST, body))
    decision = None if issued is None else _stored(issued, case)

    def record(tx: Connection) -> int:
        kept.put(tx)
        number = records.append(tx, written)
        if decision is not None:
            decisions.add(tx, replace(decision, id=number))
            sessions.attach_decision(tx, session_id, number)
        return number

    return service.writes.run(record), issued


def _token(service: Service, case: Case, brief: dict[str, object]) -> Issued | None:
    claims, decision = case.found.claims, case.found.decision
    if claims is None or decision is None or not decision.affirming or case.found.failure is not None:
        return None
    subject = Subject(
        tee=case.tee,
        nonce=case.request.nonce or "",
        tee_pubkey=case.request.tee_pubkey.members,
        verified=claims.tee,
        claims=brief,
        init_data=claims.host_binding.hex(),
        policy_id=decision.policy_name,
    )
    token_id = service.random(_TOKEN_ID_BYTES).hex()
    return issue(
        service.signing_keys.signer(case.now), service.token, subject, decision, token_id=token_id, now=case.now
    )


def _stored(issued: Issued, case: Case) -> StoredDecision:
    """What a token stands for, without its record's number."""
    claims, decision = case.found.claims, case.found.decision
    if claims is None or decision is None:
        raise TypeError("a token without a decision")
    return StoredDecision(
        id=0,
        token_id=issued.token_id,
        time=case.now,
        expires=issued.expires,
        status=decision.verdict,
        generation=case.rules.generation,
        emulated=decision.emulated,
        tee_pubkey=json.dumps(case.request.tee_pubkey.members),
        references=matching(claims, case.rules.references, case.now, case.bound.vm),
        facts=facts_to_text(facts_of(claims, case.request.init_data)),
    )


def _refuse(found: Found, number: int) -> NoReturn:
    failure = found.failure
    if isinstance(failure, VerificationFailed):
        raise AccessDenied(
            f"evidence not accepted: {failure.step} (decision {number})",
            decision=number,
            reasons=(failure.step,),
            code=failure.code,
        )
    if isinstance(failure, AttestError):
        raise failure
    failed = tuple(check.id for check in found.decision.failed) if found.decision else ()
    raise AccessDenied(f"access denied by policy (decision {number})", decision=number, reasons=failed)
