"""The guests' listener: the Confidential Containers KBS protocol 0.4.0 and 0.2.0, health, the keys tokens are signed
with.
"""

from __future__ import annotations

from flask import Response

from attest.audit.record import Actor
from attest.broker.attest import attest
from attest.broker.challenge import challenge
from attest.broker.errors import ResourceUnknown
from attest.broker.launch_statement import MAX_LAUNCH
from attest.broker.launches import record_launch
from attest.broker.operations import By
from attest.broker.protocol import MAX_ATTEST_BODY, MAX_AUTH_BODY
from attest.broker.release import release, report_header
from attest.broker.rotation import MAX_REPORT, parse_report
from attest.broker.tokens import revocation_list
from attest.web.handling import RESOURCE, json_response, resource_path
from attest.web.health import NEEDED, OK, needed, ready
from attest.web.log import LOG_ROUTES
from attest.web.principals import SESSION_COOKIE, Who
from attest.web.routes import Call, Route


def auth(call: Call) -> Response:
    """``POST /kbs/v0/auth``: a challenge and the cookie of its session."""
    opened = challenge(call.service, call.body, call.now)
    response = json_response({"nonce": opened.nonce, "extra-params": ""})
    # The cookie outlives the challenge: after an accepted attestation it stands for the decision.
    response.set_cookie(
        SESSION_COOKIE,
        opened.session_id,
        expires=opened.expires + call.service.token.lifetime,
        path="/kbs/v0",
        secure=True,
        httponly=True,
        samesite="Strict",
    )
    return response


def attest_guest(call: Call) -> Response:
    """``POST /kbs/v0/attest``: evidence for a token."""
    issued = attest(call.service, call.credential.session_id or "", call.body, call.now, call.peer)
    return json_response({"token": issued.text})


def resource(call: Call) -> Response:
    """``GET /kbs/v0/resource/…``: a resource, encrypted to the guest's key. ``?cvm-disk=1``: with what belongs to a
    disk's key; clients that do not ask get the protocol's five members and nothing beside them.
    """
    disk = call.query.get("cvm-disk") == "1"
    return json_response(release(call.service, call.credential, resource_path(call), call.now, disk=disk))


def launches(call: Call) -> Response:
    """``POST /cvm/v0/launches``: a host's signed statement about a launch; its signature says who it is from."""
    by = By(Actor("host"), call.now)
    found = record_launch(call.service.database, call.body, by, f"address:{call.peer}", call.service.limits.host)
    answer = {"schema": "attest.launch/1", "record": found.number, "host": found.host, "new": found.new}
    return json_response(answer)


def disk_report(call: Call) -> Response:
    """``POST /cvm/v0/disk-report/…``: which header a disk has, while its key is replaced."""
    said = parse_report(call.body)
    state = report_header(call.service, call.credential.session_id or "", resource_path(call), said, call.now)
    return json_response({"version": said.version, "state": state})


def jwks(call: Call) -> Response:
    """``GET /.well-known/jwks.json``: the public keys of our tokens (RFC 7517)."""
    return json_response(call.service.signing_keys.jwks())


def discovery(call: Call) -> Response:
    """``GET /.well-known/openid-configuration``: where others find our keys (OpenID Connect Discovery 1.0, section 3).

    Only where the issuer is an https URL, for everything in it begins with that; the Host header is not believed. We
    sign tokens and offer no log-in, so the members about authorisation are left out.
    """
    token = call.service.token
    if not token.issuer.startswith("https://"):
        raise ResourceUnknown("openid-configuration: the issuer is no https URL ([token] issuer)")
    base = token.issuer.rstrip("/")
    algorithms = sorted({key["alg"] for key in call.service.signing_keys.jwks()["keys"]})
    return json_response(
        {
            "issuer": token.issuer,
            "jwks_uri": f"{base}/.well-known/jwks.json",
            "id_token_signing_alg_values_supported": algorithms,
            "subject_types_supported": ["public"],
            "response_types_supported": ["none"],
            "cvm_revocation_list": f"{base}/cvm/v0/revoked-tokens",
        }
    )


def revoked_tokens(call: Call) -> Response:
    """``GET /cvm/v0/revoked-tokens``: tokens that count no more though their time is not over."""
    return json_response(revocation_list(call.service, call.now))


def healthz(call: Call) -> Response:
    """``GET /healthz``: the process answers."""
    return json_response({"status": "ok"})


def readyz(call: Call) -> Response:
    """``GET /readyz``: database, keys and policy are there. What is wrong in detail only operators are told."""
    found = needed(call.service)
    if ready(found):
        return json_response({"status": "ready"})
    code = next(found[name] for name in NEEDED if found[name] != OK)
    return json_response({"status": "not ready", "code": code}, 503)


GUEST_ROUTES = (
    Route("POST", "/kbs/v0/auth", Who.ANYONE, auth, MAX_AUTH_BODY),
    Route("POST", "/kbs/v0/attest", Who.SESSION, attest_guest, MAX_ATTEST_BODY),
    Route("GET", f"/kbs/v0/resource/{RESOURCE}", Who.GUEST, resource),
    Route("POST", "/cvm/v0/launches", Who.ANYONE, launches, MAX_LAUNCH),
    Route("POST", f"/cvm/v0/disk-report/{RESOURCE}", Who.SESSION, disk_report, MAX_REPORT),
    Route("GET", "/.well-known/jwks.json", Who.ANYONE, jwks),
    Route("GET", "/.well-known/openid-configuration", Who.ANYONE, discovery),
    Route("GET", "/cvm/v0/revoked-tokens", Who.ANYONE, revoked_tokens),
    *LOG_ROUTES,
    Route("GET", "/healthz", Who.ANYONE, healthz),
    Route("GET", "/readyz", Who.ANYONE, readyz),
)
