"""The operators' routes for what is on record: lists, single records, auditors' questions, why a guest was refused."""

from __future__ import annotations

from flask import Response

from attest.audit.note import MAX_NOTE
from attest.audit.record import DECISION
from attest.broker.abbreviated import completed
from attest.broker.asking import Asked, Judge, answer_document, ask, parse_time
from attest.broker.errors import RequestMalformed, ResourceUnknown
from attest.broker.explain_refusal import explain_refusal, explained_json
from attest.broker.log_asked import ask_checkpoint, growth_since, proof_of
from attest.broker.views import record_json
from attest.store import records
from attest.store.records import Filter
from attest.web.digits import digits
from attest.web.handling import json_response, number
from attest.web.log import PREFIX
from attest.web.principals import Who
from attest.web.routes import Call, Route
from policy.reference import ReferenceValue, reference_from_json
from policy.strictjson import strict_json

LISTED, MAX_LISTED = 100, 1000
MAX_COMPARED = 64
"""Reference values that one request compares a guest with: this listener has one process, and slows others."""
MAX_CANDIDATES, MAX_CANDIDATES_BYTES = 16, 1 << 20


def list_decisions(call: Call) -> Response:
    """``GET``: the newest decisions, ``?limit=`` of them, oldest first."""
    return _listed(call, Filter(kinds=(DECISION,)))


def list_records(call: Call) -> Response:
    """``GET``: the newest ``?limit=`` records that fit ``?kind=``, ``vm``, ``chip``, ``measurement``, ``resource``,
    ``since`` and ``until``, oldest first."""
    query = call.query
    wanted = Filter(
        since=parse_time(query.get("since"), "since"),
        until=parse_time(query.get("until"), "until"),
        kinds=(query["kind"],) if "kind" in query else (),
        subject=query.get("resource"),
        vm=query.get("vm"),
        chip=query.get("chip"),
        measurement=query.get("measurement"),
    )
    return _listed(call, wanted)


def show_record(call: Call) -> Response:
    """``GET``: one audit record, its canonical bytes as they stand."""
    wanted = _numbered(call)
    with call.service.database.read() as tx:
        found = records.get(tx, wanted)
    if found is None:
        raise ResourceUnknown(f"audit record {wanted}: not found")
    return Response(found.record, mimetype="application/json")


def audit_question(call: Call) -> Response:
    """``GET``: an auditor's question; ``?value=`` what it is about, ``?since=`` and ``?until=`` dates or times."""
    query, service = call.query, call.service
    asked = Asked(
        call.arguments["question"],
        call.now,
        query.get("value"),
        parse_time(query.get("since"), "since"),
        parse_time(query.get("until"), "until"),
    )
    judge = Judge(service.rules.current, service.collateral.offline())
    with service.database.read() as tx:
        return json_response(answer_document(asked, ask(tx, asked, judge)))


def explain(call: Call) -> Response:
    """``POST`` a list of candidates (``cvm.reference/1`` objects, may be empty): which input of the guest's launch is
    not that of ``?reference=``, or of the closest reference value."""
    decision = _numbered(call)
    found = explain_refusal(
        call.service.database,
        decision,
        _candidates(call.body),
        reference=call.query.get("reference"),
        most=MAX_COMPARED,
    )
    return json_response({"schema": "attest.reference.explain/1", **explained_json(decision, found)})


def prove(call: Call) -> Response:
    """``GET``: the proof of a record under the newest checkpoint; ``?to=`` for a bundle of it and those up to there."""
    return _file(proof_of(call.service.database, _numbered(call), number(call, "to", most=15)))


def growth(call: Call) -> Response:
    """``POST`` an older checkpoint: the proof that the newest one extends it."""
    return _file(growth_since(call.service.database, call.body))


def sign(call: Call) -> Response:
    """``POST``: have a checkpoint signed that covers the ``size`` records of now; a moment later it is the newest."""
    return json_response({"schema": "attest.log.asked/1", "size": ask_checkpoint(call.service)})


def _file(data: bytes) -> Response:
    return Response(data, content_type="application/octet-stream")


def _candidates(body: bytes) -> list[ReferenceValue]:
    parsed = strict_json(body or b"[]", "candidates", max_bytes=MAX_CANDIDATES_BYTES, error=RequestMalformed)
    if not isinstance(parsed, list) or len(parsed) > MAX_CANDIDATES:
        raise RequestMalformed(f"candidates: want a list of at most {MAX_CANDIDATES} reference values")
    return [reference_from_json(item) for item in parsed]


def _listed(call: Call, wanted: Filter) -> Response:
    limit = number(call, "limit")
    if limit is not None and not 0 < limit <= MAX_LISTED:
        raise RequestMalformed(f"limit: got {limit}, want 1..{MAX_LISTED}")
    with call.service.database.read() as tx:
        found = records.find(tx, completed(tx, wanted), limit=LISTED if limit is None else limit)
    return json_response({"schema": "attest.audit.list/1", "records": [record_json(entry) for entry in found]})


def _numbered(call: Call) -> int:
    """The record the path names."""
    text = call.arguments["number"]
    if (found := digits(text)) is None:
        raise ResourceUnknown(f"audit record {text[:20]!r}: not found")
    return found


_FILTERS = ("limit", "kind", "vm", "chip", "measurement", "resource", "since", "until")
AUDIT_ROUTES = (
    Route("GET", "/cvm/v0/decisions", Who.AUDITOR, list_decisions, query=("limit",)),
    Route(
        "POST",
        "/cvm/v0/decisions/<number>/explanation",
        Who.AUDITOR,
        explain,
        MAX_CANDIDATES_BYTES,
        query=("reference",),
    ),
    Route("GET", "/cvm/v0/audit", Who.AUDITOR, list_records, query=_FILTERS),
    Route("GET", "/cvm/v0/audit/<number>", Who.AUDITOR, show_record),
    Route("GET", "/cvm/v0/audit/<number>/proof", Who.AUDITOR, prove, query=("to",)),
    Route("GET", "/cvm/v0/audit-questions/<question>", Who.AUDITOR, audit_question, query=("value", "since", "until")),
    Route("POST", f"{PREFIX}/checkpoint", Who.AUDITOR, sign),
    Route("POST", f"{PREFIX}/growth", Who.AUDITOR, growth, MAX_NOTE),
)
