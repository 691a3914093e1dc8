"""The operators' listener: resources, reference values and decisions, for holders of an operator certificate.

Auditors' certificates, where the settings let them in, open the routes marked so: they change nothing and give out no
secret.

Resource paths are those of the KBS administration API (raw bytes in, nothing secret out); the rest is ours,
``/cvm/v0``.
"""

from __future__ import annotations

from flask import Response

from attest.audit.record import DECISION
from attest.broker import operations, tokens
from attest.broker.asking import Asked, Judge, answer_document, ask, parse_time
from attest.broker.errors import RequestMalformed, ResourceUnknown
from attest.broker.operations import NewResource
from attest.broker.token import MAX_TOKEN
from attest.broker.views import record_json, secret_json
from attest.store import records, secrets
from attest.web.collateral import COLLATERAL_ROUTES
from attest.web.expiry_watch import seconds_left
from attest.web.guest import RESOURCE, healthz, json_response, resource_path
from attest.web.health import OK, checks, ready
from attest.web.lifecycle import LIFECYCLE_ROUTES, operator
from attest.web.log import AUDITORS_LOG_ROUTES
from attest.web.policies import POLICY_ROUTES
from attest.web.principals import Who
from attest.web.queries import flag, names
from attest.web.references import REFERENCE_ROUTES
from attest.web.routes import Call, Route
from attest.web.trustee_admin import TRUSTEE_ADMIN_ROUTES
from policy.secret import SecretBytes

MAX_LISTED = 1000


def put_resource(call: Call) -> Response:
    """``POST`` raw bytes; ``?replace=1`` to replace, ``?for=NAME,NAME`` to limit who gets it, ``?luks-header=`` for the
    digest of the header of the disk it opens."""
    path = resource_path(call)
    new = NewResource(
        path,
        SecretBytes(call.body),
        replace=flag(call, "replace"),
        only_for=names(call, "for"),
        luks_header=call.query.get("luks-header"),
    )
    version = operations.put_resource(call.service.database, call.service.master_keys, new, operator(call))
    return json_response({"path": path, "version": version})


def delete_resource(call: Call) -> Response:
    """``DELETE``: erase the resource; its history stays."""
    path = resource_path(call)
    version = operations.delete_resource(call.service.database, path, operator(call))
    return json_response({"path": path, "version": version, "deleted": True})


def list_resources(call: Call) -> Response:
    """``GET``: names, versions, sizes, times; never values. ``?history=1``: erased versions too."""
    with call.service.database.read() as tx:
        found = secrets.entries(tx, history=flag(call, "history"))
    return json_response({"schema": "attest.key.list/1", "resources": [secret_json(entry) for entry in found]})


def introspect_token(call: Call) -> Response:
    """``POST`` a token as it is, as text: whether it counts now (RFC 7662's ``active``), and why not."""
    text = call.body.decode("ascii", "replace").strip()
    return json_response({"schema": "attest.token.introspect/1", **tokens.introspect(call.service, text, call.now)})


def show_token(call: Call) -> Response:
    """``GET``: what a token's id stands for."""
    found = tokens.find(call.service.database, call.arguments["id"])
    return json_response({"schema": "attest.token.show/1", **tokens.token_json(found)})


def revoke_token(call: Call) -> Response:
    """``DELETE`` with ``?reason=``: end it."""
    found = tokens.revoke(call.service.database, call.arguments["id"], call.query.get("reason", ""), operator(call))
    return json_response({"schema": "attest.token.revoke/1", **tokens.token_json(found)})


def list_decisions(call: Call) -> Response:
    """``GET``: the newest decisions, ``?limit=`` of them, oldest first."""
    limit = call.query.get("limit", "100")
    if not (limit.isascii() and limit.isdigit() and 0 < int(limit) <= MAX_LISTED):
        raise RequestMalformed(f"limit: got {limit[:20]!r}, want 1..{MAX_LISTED}")
    with call.service.database.read() as tx:
        found = records.newest(tx, kind=DECISION, limit=int(limit))
    return json_response({"schema": "attest.audit.list/1", "records": [record_json(entry) for entry in found]})


def show_record(call: Call) -> Response:
    """``GET``: one audit record, its canonical bytes as they stand."""
    number = call.arguments["number"]
    with call.service.database.read() as tx:
        found = records.get(tx, int(number)) if number.isascii() and number.isdigit() and len(number) < 16 else None
    if found is None:
        raise ResourceUnknown(f"audit record {number[:20]}: not found")
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


def readyz(call: Call) -> Response:
    """``GET``: every readiness check by name, ``ok`` or what is wrong."""
    found = checks(call.service, call.now)
    fit = ready(found)
    return json_response({"status": "ready" if fit else "not ready", "checks": found}, 200 if fit else 503)


def metrics(call: Call) -> Response:
    """``GET``: counters of this replica for Prometheus."""
    found = {name: outcome == OK for name, outcome in checks(call.service, call.now).items()}
    text = "" if call.metrics is None else call.metrics.text(found, seconds_left(call.service, call.now))
    return Response(text, content_type="text/plain; version=0.0.4; charset=utf-8")


ADMIN_ROUTES = (
    Route("POST", RESOURCE, Who.OPERATOR, put_resource, operations.MAX_SECRET),
    Route("DELETE", RESOURCE, Who.OPERATOR, delete_resource),
    Route("GET", "/kbs/v0/resource", Who.AUDITOR, list_resources),
    *LIFECYCLE_ROUTES,
    *TRUSTEE_ADMIN_ROUTES,
    *REFERENCE_ROUTES,
    *POLICY_ROUTES,
    *COLLATERAL_ROUTES,
    Route("POST", "/cvm/v0/token/introspect", Who.OPERATOR, introspect_token, MAX_TOKEN),
    Route("GET", "/cvm/v0/token/<id>", Who.OPERATOR, show_token),
    Route("DELETE", "/cvm/v0/token/<id>", Who.OPERATOR, revoke_token),
    Route("GET", "/cvm/v0/decisions", Who.AUDITOR, list_decisions),
    Route("GET", "/cvm/v0/audit/<number>", Who.AUDITOR, show_record),
    Route("GET", "/cvm/v0/audit-questions/<question>", Who.AUDITOR, audit_question),
    *AUDITORS_LOG_ROUTES,
    Route("GET", "/healthz", Who.OPERATOR, healthz),
    Route("GET", "/readyz", Who.OPERATOR, readyz),
    Route("GET", "/metrics", Who.AUDITOR, metrics),
)
