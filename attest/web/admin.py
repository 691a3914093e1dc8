"""The operators' listener: resources, reference values and decisions, for holders of an operator certificate.

Auditors' certificates, where the settings let them in, open the routes marked so: they change nothing and give out no
secret.

Resource paths are those of the KBS administration API (raw bytes in, nothing secret out); the rest is ours,
``/cvm/v0``.
"""

from __future__ import annotations

from flask import Response

from attest.broker import operations, tokens
from attest.broker.errors import RequestMalformed, RequestUnsupported
from attest.broker.expiry import expiring_json
from attest.broker.operations import NewResource
from attest.broker.rewrapping import rewrap_all
from attest.broker.token import MAX_TOKEN
from attest.broker.token_keys import ROTATE_AFTER, StoredRing, rotate, rotation_json
from attest.broker.views import secret_json
from attest.keys.ring import ring_json
from attest.keys.signing import ALGORITHMS, ES256
from attest.settings_roles import Duty
from attest.store import secrets
from attest.web.audit import AUDIT_ROUTES
from attest.web.collateral import COLLATERAL_ROUTES
from attest.web.expiry_watch import expiries_of, seconds_left
from attest.web.guest import healthz
from attest.web.handling import RESOURCE, flag, json_response, names, number, operator, resource_path
from attest.web.health import OK, checks, ready
from attest.web.hosts import HOST_ROUTES
from attest.web.lifecycle import LIFECYCLE_ROUTES
from attest.web.log import AUDITORS_LOG_ROUTES
from attest.web.policies import POLICY_ROUTES
from attest.web.principals import Who
from attest.web.problems import OperatorRequired
from attest.web.references import REFERENCE_ROUTES
from attest.web.routes import Call, Route
from attest.web.trustee_admin import TRUSTEE_ADMIN_ROUTES
from policy.secret import SecretBytes


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


def list_token_keys(call: Call) -> Response:
    """``GET``: the keys that this replica signs tokens with, and from when."""
    found = [ring_json(entry) for entry in call.service.signing_keys.entries()]
    return json_response({"schema": "attest.token.keys/1", "keys": found})


def rotate_token_key(call: Call) -> Response:
    """``POST``: one more key, which signs in ``?after=`` seconds (600), ``?alg=ES256|ES384``; erases those that no
    token needs. Only where the keys are in the database: files are each replica's own."""
    service, after, name = call.service, number(call, "after"), call.query.get("alg", ES256.name)
    if not isinstance(service.signing_keys, StoredRing):
        raise RequestUnsupported(
            "token keys: are files of each replica here, rotate them on its machine",
            hint='token_keys = "database" under [keys] has them shared',
        )
    if name not in ALGORITHMS:
        raise RequestMalformed(f"alg: got {name[:20]!r}, want {' or '.join(ALGORITHMS)}")
    seconds = ROTATE_AFTER if after is None else after
    done = rotate(
        service.database, service.master_keys, seconds, ALGORITHMS[name], service.token.lifetime, operator(call)
    )
    return json_response({"schema": "attest.token.rotate/1", **rotation_json(done)})


def rewrap(call: Call) -> Response:
    """``POST``: every data key under the newest master key this replica has."""
    keys = call.service.master_keys
    done = rewrap_all(call.service.database, keys, operator(call))
    return json_response({"resources": done, "master_key": keys.newest})


def list_expiries(call: Call) -> Response:
    """``GET``: everything of this replica that ends, the soonest first."""
    found = expiries_of(call.service).at(call.now)
    return json_response({"schema": "attest.expiry/1", "items": [expiring_json(item, call.now) for item in found]})


def whoami(call: Call) -> Response:
    """``GET``: what the service takes the caller for, and what they may do beside reading."""
    actor = call.actor
    if actor is None:
        raise OperatorRequired("operators and auditors only")
    return json_response(
        {
            "schema": "attest.whoami/1",
            "kind": actor.kind,
            "name": actor.name,
            "certificate_sha256": actor.certificate_sha256 or None,
            "issuer": actor.issuer or None,
            "duties": call.roles.json_of(actor),
        }
    )


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
    Route(
        "POST",
        f"/kbs/v0/resource/{RESOURCE}",
        Who.OPERATOR,
        put_resource,
        operations.MAX_SECRET,
        duty=Duty.KEYS,
        query=("replace", "for", "luks-header"),
    ),
    Route("DELETE", f"/kbs/v0/resource/{RESOURCE}", Who.OPERATOR, delete_resource, duty=Duty.KEYS),
    Route("GET", "/kbs/v0/resource", Who.AUDITOR, list_resources, query=("history",)),
    *LIFECYCLE_ROUTES,
    *TRUSTEE_ADMIN_ROUTES,
    *REFERENCE_ROUTES,
    *POLICY_ROUTES,
    *COLLATERAL_ROUTES,
    Route("POST", "/cvm/v0/token/introspect", Who.OPERATOR, introspect_token, MAX_TOKEN, duty=Duty.TOKENS),
    Route("GET", "/cvm/v0/token/<id>", Who.OPERATOR, show_token, duty=Duty.TOKENS),
    Route("DELETE", "/cvm/v0/token/<id>", Who.OPERATOR, revoke_token, duty=Duty.TOKENS, query=("reason",)),
    Route("GET", "/cvm/v0/token-key", Who.AUDITOR, list_token_keys),
    Route("POST", "/cvm/v0/token-key", Who.OPERATOR, rotate_token_key, duty=Duty.TOKENS, query=("after", "alg")),
    Route("POST", "/cvm/v0/rewrap", Who.OPERATOR, rewrap, duty=Duty.KEYS),
    Route("GET", "/cvm/v0/expiry", Who.AUDITOR, list_expiries),
    *HOST_ROUTES,
    *AUDIT_ROUTES,
    *AUDITORS_LOG_ROUTES,
    Route("GET", "/cvm/v0/whoami", Who.AUDITOR, whoami),
    Route("GET", "/healthz", Who.OPERATOR, healthz),
    Route("GET", "/readyz", Who.OPERATOR, readyz),
    Route("GET", "/metrics", Who.AUDITOR, metrics),
)
