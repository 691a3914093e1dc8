"""Errors as HTTP answers: one table from class to status, one body for all.

``{"type": …, "detail": …}`` is what the KBS clients parse; both must be strings. ``title``, ``status``, ``code`` and,
where there is one, ``decision`` and ``reasons`` are ours (RFC 9457 allows members beside its own; clients ignore
them).

401 is for sessions and tokens only, because on 401 the real client attests again. 403 ends the matter: the guest is
told which checks failed by name and where operators find the rest. What is our fault is 500 with an id and no detail.
"""

from __future__ import annotations

import json
import logging
import secrets
from dataclasses import dataclass
from typing import Any

from flask import Response
from werkzeug.exceptions import HTTPException

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
    members: dict[str, Any] = {"code": error.code}
    noted.fault = _fault(error, kind)
    if isinstance(error, AccessDenied):
        members |= {"decision": error.decision, "reasons": list(error.reasons)}
    detail = error.message
    if kind is _UNAVAILABLE:
        if not isinstance(error, Overloaded):  # one more line for each would make it worse
            _log.error("unavailable: %s", error.message)
        # What is missing on our side is for operators: the message may name paths.
        detail = f"not available now: {error.code}"
    response = _body(noted, kind, detail, members)
    if kind is _UNAVAILABLE:
        response.headers["Retry-After"] = str(RETRY_SECONDS)
    if isinstance(error, TooMany):
        response.headers["Retry-After"] = str(error.retry)
    if isinstance(error, BearerRefused):
        response.headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'  # RFC 6750, section 3
    return response


def _kind(error: CvmError) -> Kind:
    for cls, kind in _TABLE:
        if isinstance(error, cls):
            return kind
    if isinstance(error, AttestError) and error.kind == "unavailable":
        return _UNAVAILABLE
    return _INTERNAL


def _http(error: HTTPException, noted: Noted) -> Response:
    status = error.code or 500
    names = {404: "InvalidRequestPath", 405: "InvalidRequestPath", 413: "PayloadTooLarge"}
    kind = Kind(status, names.get(status, "RequestError"), error.name)
    noted.fault = "guest" if status < 500 else "service"
    response = _body(noted, kind, error.description or error.name, {"code": f"http.{status}"})
    for name, value in error.get_headers():
        if name.lower() == "allow":
            response.headers[name] = value
    return response


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
