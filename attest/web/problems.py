"""Errors as HTTP answers: one table from class to status, one body for all.

``{"type": …, "detail": …}`` is what the KBS clients parse; both must be strings. ``title``, ``status``, ``code`` and,
where there is one, ``hint``, ``decision`` and ``reasons`` are ours (RFC 9457 allows members beside its own; clients
ignore them).

401 is for sessions and tokens only, because on 401 the real client attests again. 403 ends the matter: the guest is
told which checks failed by name and where operators find the rest. What is our fault is 500 with an id and no detail.
"""

from __future__ import annotations

import json
import logging
import secrets
from dataclasses import dataclass
from typing import Any

from flask import Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from attest.broker.errors import (
    AccessDenied,
    ApprovalMissing,
    Overloaded,
    RequestMalformed,
    ResourceUnknown,
    RotationState,
    SessionRefused,
    TokenRefused,
    TooMany,
    VersionMismatch,
)
from attest.broker.launches import HostRefused
from attest.collateral.errors import BundleRefused
from attest.errors import AttestError
from attest.keys.client_crl import CertificateRevoked
from attest.keys.statement import SignatureRefused
from attest.store.errors import AlreadyExists, NotFound, StoreUnavailable
from attest.web.duties import DutyMissing
from attest.web.health import HEALTH
from attest.web.oidc.errors import BearerRefused
from policy.errors import ConfigInvalid, CvmError, MalformedInput

TYPE_PREFIX = "https://github.com/confidential-containers/kbs/errors/"
RETRY_SECONDS = 5
_log = logging.getLogger("attest")


NOTED = "attest.noted"
"""Where a request's environment has its :class:`Noted`."""


class Noted:
    """What is found out about one request on its way, for its line in the log and the counters: the path of its route,
    who asks on operators' routes, whose fault it is that it failed, the error's code; and why it was turned away.
    """

    __slots__ = ("caller", "code", "fault", "refused", "route")

    def __init__(self) -> None:
        self.route: str | None = None
        self.caller: str | None = None
        self.fault: str | None = None
        self.code: str | None = None
        self.refused: CvmError | None = None


class OperatorRequired(AttestError):
    """A route of operators or auditors, asked for by somebody who is none."""

    code = "operator.required"


@dataclass(frozen=True, slots=True)
class Kind:
    """How a class of errors appears: status, last part of ``type``, title."""

    status: int
    name: str
    title: str


# The first class that fits counts: narrow ones stand first.
_TABLE: tuple[tuple[type[CvmError], Kind], ...] = (
    (SessionRefused, Kind(401, "SessionRefused", "No usable session")),
    (TokenRefused, Kind(401, "TokenVerifierError", "No usable token")),
    (BearerRefused, Kind(401, "AdminAuthError", "No usable bearer token")),
    (CertificateRevoked, Kind(403, "AdminAuthError", "Certificate revoked")),
    (DutyMissing, Kind(403, "AdminAuthError", "Not among this operator's duties")),
    (OperatorRequired, Kind(403, "AdminAuthError", "Operators only")),
    (ApprovalMissing, Kind(409, "ApprovalMissing", "Approval missing")),
    (RotationState, Kind(409, "RotationState", "Another state of the key's replacement")),
    (TooMany, Kind(429, "TooManyRequests", "Too many requests")),
    (AccessDenied, Kind(403, "PolicyDeny", "Access denied")),
    (ResourceUnknown, Kind(404, "ResourceNotFound", "Not found")),
    (NotFound, Kind(404, "ResourceNotFound", "Not found")),
    (AlreadyExists, Kind(409, "AlreadyExists", "Exists already")),
    (VersionMismatch, Kind(400, "ProtocolVersion", "Protocol version not supported")),
    (RequestMalformed, Kind(400, "SerdeError", "Malformed request")),
    (MalformedInput, Kind(400, "SerdeError", "Malformed input")),
    (ConfigInvalid, Kind(400, "SerdeError", "Malformed document")),
    (BundleRefused, Kind(400, "BundleRefused", "Does not verify")),
    (HostRefused, Kind(403, "HostRefused", "Not a registered host's word")),
    (SignatureRefused, Kind(400, "SignatureRefused", "Not signed as it must be")),
)
_UNAVAILABLE = Kind(503, "PluginInternalError", "Not available now")
_INTERNAL = Kind(500, "PluginInternalError", "Internal error")


def problem_response(error: Exception, noted: Noted) -> Response:
    """The answer to any exception a handler raised."""
    if isinstance(error, HTTPException):
        return _http(error, noted)
    if not isinstance(error, CvmError):
        return _unexpected(error, noted)
    kind = _kind(error)
    if kind is _INTERNAL:
        return _unexpected(error, noted)
    noted.fault = _fault(error, kind)
    detail = error.message
    if kind is _UNAVAILABLE:
        if not isinstance(error, Overloaded):  # one more line for each would make it worse
            _log.error("unavailable: %s", error.message)
        # What is missing on our side is for operators: the message may name paths.
        detail = f"not available now: {error.code}"
    response = _body(noted, kind, detail, _members(error, kind))
    if kind is _UNAVAILABLE:
        response.headers["Retry-After"] = str(RETRY_SECONDS)
    if isinstance(error, TooMany):
        response.headers["Retry-After"] = str(error.retry)
    if isinstance(error, BearerRefused):
        response.headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'  # RFC 6750, section 3
    return response


def _members(error: CvmError, kind: Kind) -> dict[str, Any]:
    members: dict[str, Any] = {"code": error.code}
    if isinstance(error, AccessDenied):
        members |= {"decision": error.decision, "reasons": list(error.reasons)}
    if error.hint is not None and kind is not _UNAVAILABLE:
        members["hint"] = error.hint
    return members


def _kind(error: CvmError) -> Kind:
    for cls, kind in _TABLE:
        if isinstance(error, cls):
            return kind
    if isinstance(error, AttestError) and error.kind == "unavailable":
        return _UNAVAILABLE
    return _INTERNAL


_HTTP = {404: "InvalidRequestPath", 405: "InvalidRequestPath", 413: "PayloadTooLarge"}


def _http(error: HTTPException, noted: Noted) -> Response:
    status = error.code or 500
    kind, detail = Kind(status, _HTTP.get(status, "RequestError"), error.name), _said(error, noted)
    noted.fault = "guest" if status < 500 else "service"
    response = _body(noted, kind, detail, {"code": f"http.{status}"})
    if isinstance(error, MethodNotAllowed):
        response.headers["Allow"] = ", ".join(_allowed(error))
    return response


def _allowed(error: MethodNotAllowed) -> list[str]:
    """Without the HEAD that werkzeug adds to every GET."""
    return sorted(name for name in error.valid_methods or () if name != "HEAD" or request.path in HEALTH)


def _said(error: HTTPException, noted: Noted) -> str:
    """What of the request the framework did not take, in our words: its own are for people with a browser."""
    where, got = error.code, f"{request.method[:20]} {request.path[:200]!r}"
    if where == 404:
        return f"path: nothing is at {got} on this listener, see the description of the interface (openapi.json)"
    if isinstance(error, MethodNotAllowed):
        return f"method: got {got}, want {' or '.join(_allowed(error))}"
    if where == 413:
        return f"body: more than the {request.max_content_length} bytes that {noted.route or 'this path'} takes"
    return error.description or error.name


def _unexpected(error: Exception, noted: Noted) -> Response:
    noted.fault = "service"
    reference = secrets.token_hex(8)
    _log.error("internal error %s", reference, exc_info=error)
    return _body(noted, _INTERNAL, f"internal error {reference}", {"code": "internal"})


def _fault(error: CvmError, kind: Kind) -> str:
    if isinstance(error, (Overloaded, TooMany)):
        return "overload"
    if isinstance(error, StoreUnavailable):
        return "storage"
    return "collateral" if kind is _UNAVAILABLE else "guest"


def _body(noted: Noted, kind: Kind, detail: str, members: dict[str, Any]) -> Response:
    noted.code = members["code"]
    body = {"type": TYPE_PREFIX + kind.name, "detail": detail, "title": kind.title, "status": kind.status, **members}
    return Response(json.dumps(body), status=kind.status, mimetype="application/json")
