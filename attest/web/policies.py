"""The operators' routes for the appraisal policy: try one, put one in force, go back, look back, replay.

What is put in force here passes exactly what the file of the settings passes: parsed as a whole, signed by as many of
the operators' keys as the settings demand.
"""

from __future__ import annotations

from datetime import timedelta

from flask import Response

from attest.audit.canonical import rfc3339
from attest.broker.asking import parse_time
from attest.broker.errors import RequestMalformed
from attest.broker.policies import apply_policy, check_policy, version, version_json, versions
from attest.broker.policy_replay import replay, replay_json
from attest.broker.rules import parse_stored
from attest.settings_roles import Duty
from attest.store import rules
from attest.store.errors import NotFound
from attest.web.digits import digits
from attest.web.handling import flag, json_response, number, operator
from attest.web.principals import Who
from attest.web.routes import Call, Route
from policy.document import PolicyDocument, parse_policy

MAX_POLICY = 2 << 20
MAX_REPLAYED = 1000
"""Decisions judged again for one request: this listener has one process, and slows others."""
CURRENT = "current"
_POLICY = "/cvm/v0/policy"


def check(call: Call) -> Response:
    """``POST`` a policy or an envelope: whether it could be put in force here; nothing changes."""
    found = check_policy(call.service.database, call.body, call.service.signers)
    return json_response({"schema": "attest.policy.check/1", **found})


def apply(call: Call) -> Response:
    """``POST`` a policy or an envelope: put it in force."""
    service = call.service
    return _in_force(call, apply_policy(service.database, call.body, operator(call), service.signers))


def rollback(call: Call) -> Response:
    """``POST`` with ``?version=``: put an earlier one in force again."""
    service, wanted = call.service, number(call, "version")
    if wanted is None:
        raise RequestMalformed("version: missing, want the number of an earlier version")
    with service.database.read() as tx:
        entry, signed = version(tx, wanted)
    return _in_force(
        call, apply_policy(service.database, signed, operator(call), service.signers, rollback_to=entry.number)
    )


def listed(call: Call) -> Response:
    """``GET``: every version, oldest first."""
    with call.service.database.read() as tx:
        found = versions(tx)
    return json_response({"schema": "attest.policy.list/1", "versions": [version_json(entry) for entry in found]})


def show(call: Call) -> Response:
    """``GET``: a version by number, or the one that is in force, with its text."""
    wanted = call.arguments["version"]
    with call.service.database.read() as tx:
        entry, signed = version(tx, None if wanted == CURRENT else _numbered(wanted))
    return json_response({"schema": "attest.policy.show/1", **version_json(entry), "text": signed.data.decode()})


def replayed(call: Call) -> Response:
    """``POST`` a policy: what the evidence recorded in ``[?since=, ?until=)`` (30 days) would have got under it, with
    ``?present-references=1`` by the reference values of now."""
    until = parse_time(call.query.get("until"), "until") or call.now
    since = parse_time(call.query.get("since"), "since") or until - timedelta(days=30)
    if since >= until:
        raise RequestMalformed(f"since: {rfc3339(since)} is not before {rfc3339(until)}")
    document = parse_policy(call.body)
    with call.service.database.read() as tx:
        stored = rules.active_references(tx) if flag(call, "present-references") else None
        references = None if stored is None else tuple(map(parse_stored, stored))
        found = replay(tx, document, since, until, references=references, most=MAX_REPLAYED)
    return json_response(replay_json(found, document.name, since, until))


def _numbered(text: str) -> int:
    if (found := digits(text, 7)) is None:
        raise NotFound(f"policy version {text[:20]!r}: want a number, or current")
    return found


def _in_force(call: Call, document: PolicyDocument) -> Response:
    with call.service.database.read() as tx:
        entry = version(tx)[0]
    return json_response(
        {
            "name": document.name,
            "version": entry.number,
            "sha256": entry.sha256.hex(),
            "signed_by": list(entry.signed_by),
            "emulated": document.emulated_allowed,
        }
    )


POLICY_ROUTES = (
    Route("POST", _POLICY, Who.OPERATOR, apply, MAX_POLICY, duty=Duty.POLICY),
    Route("GET", _POLICY, Who.AUDITOR, listed),
    Route("POST", f"{_POLICY}/check", Who.AUDITOR, check, MAX_POLICY),
    Route("POST", f"{_POLICY}/rollback", Who.OPERATOR, rollback, duty=Duty.POLICY, query=("version",)),
    Route(
        "POST", f"{_POLICY}/replay", Who.AUDITOR, replayed, MAX_POLICY, query=("since", "until", "present-references")
    ),
    Route("GET", f"{_POLICY}/<version>", Who.AUDITOR, show),
)
