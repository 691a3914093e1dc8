"""The operators' routes for a stored resource: its conditions, approvals, break-glass, stopping it, its export."""

from __future__ import annotations

from collections.abc import Callable

from flask import Response

from attest.broker import lifecycle, operations, rotation
from attest.broker.conditions import RELEASE
from attest.broker.errors import RequestMalformed
from attest.broker.operations import By
from attest.web.guest import json_response, resource_path
from attest.web.principals import Who, may
from attest.web.problems import OperatorRequired
from attest.web.routes import Call, Route
from policy.release_conditions import MAX_DOCUMENT

_PATH = "<repository>/<kind>/<tag>"


def show(call: Call) -> Response:
    """``GET``: a resource without its value, its conditions, who approves now."""
    found = lifecycle.resource_json(call.service.database, resource_path(call), call.now)
    return json_response({"schema": "attest.key.show/1", **found})


def set_conditions(call: Call) -> Response:
    """``POST`` a TOML document; an empty one asks for nothing."""
    path = resource_path(call)
    version = lifecycle.set_conditions(call.service.database, path, call.body, operator(call))
    return json_response({"path": path, "version": version})


def approve(call: Call) -> Response:
    """``POST``: ``?purpose=release|change|export``, ``?minutes=``."""
    path, purpose = resource_path(call), call.query.get("purpose", RELEASE)
    record = lifecycle.approve(call.service.database, path, purpose, _number(call, "minutes", 60), operator(call))
    return json_response({"path": path, "purpose": purpose, "record": record})


def break_glass(call: Call) -> Response:
    """``POST``: ``?reason=``, ``?minutes=``."""
    path, reason = resource_path(call), call.query.get("reason", "")
    minutes = _number(call, "minutes", 15)
    record = lifecycle.break_glass(call.service.database, path, reason, minutes, operator(call))
    return json_response({"path": path, "record": record})


def disable(call: Call) -> Response:
    """``POST``: ``?reason=``; no guest gets it until it is enabled."""
    return _switch(call, True)


def enable(call: Call) -> Response:
    """``POST``: ``?reason=``."""
    return _switch(call, False)


def generate(call: Call) -> Response:
    """``POST``: a random value of ``?bytes=`` that nobody has seen; ``?replace=1`` as for one that is sent."""
    path, replace = resource_path(call), call.query.get("replace", "0") == "1"
    size = _number(call, "bytes", 32)
    service = call.service
    version = operations.generate_resource(service.database, service.master_keys, path, size, replace, operator(call))
    return json_response({"path": path, "version": version})


def export(call: Call) -> Response:
    """``POST``: ``?reason=``; the value, where enough operators approved."""
    service, path = call.service, resource_path(call)
    value = lifecycle.export(service.database, service.master_keys, path, call.query.get("reason", ""), operator(call))
    answer = Response(value.reveal(), mimetype="application/octet-stream", headers={"Cache-Control": "no-store"})
    value.wipe()
    return answer


def rotate(call: Call) -> Response:
    """``POST``: make the key that shall replace this one, ``?bytes=``; the guest goes on with it at its next boot."""
    path, service = resource_path(call), call.service
    size = _number(call, "bytes", 0) or None
    version = rotation.start(service.database, service.master_keys, path, size, operator(call))
    return json_response({"path": path, "version": version})


def abort_rotation(call: Call) -> Response:
    """``DELETE``: give that key up, as long as no guest has confirmed it."""
    path = resource_path(call)
    to_remove = rotation.abort(call.service.database, path, operator(call))
    return json_response({"path": path, "to_remove": to_remove})


def record_header(call: Call) -> Response:
    """``POST``: ``?sha256=`` is the digest of the header of the disk this key opens; without it none is known."""
    path = resource_path(call)
    version = rotation.record_header(call.service.database, path, call.query.get("sha256"), operator(call))
    return json_response({"path": path, "version": version, "header": call.query.get("sha256")})


def forget_vm(call: Call) -> Response:
    """``DELETE``: ``?reason=``; the VM may come up on another machine."""
    vm = call.arguments["name"]
    known = lifecycle.forget_vm(call.service.database, vm, call.query.get("reason", ""), operator(call))
    return json_response({"vm": vm, "launches": known})


def operator(call: Call) -> By:
    """Who asks. Raises OperatorRequired."""
    if call.actor is None or not may(Who.OPERATOR, call.actor):
        raise OperatorRequired("operators only")
    return By(call.actor, call.now)


def _switch(call: Call, disabled: bool) -> Response:
    path = resource_path(call)
    lifecycle.set_disabled(call.service.database, path, disabled, call.query.get("reason", ""), operator(call))
    return json_response({"path": path, "disabled": disabled})


def _number(call: Call, name: str, otherwise: int) -> int:
    value = call.query.get(name, str(otherwise))
    if not (value.isascii() and value.isdigit() and len(value) < 8):
        raise RequestMalformed(f"{name}: got {value[:20]!r}, want a number")
    return int(value)


def _route(
    method: str, verb: str, handler: Callable[[Call], Response], max_body: int = 0, who: Who = Who.OPERATOR
) -> Route:
    return Route(method, f"/cvm/v0/{verb}/{_PATH}", who, handler, max_body)


LIFECYCLE_ROUTES = (
    _route("GET", "resource", show, who=Who.AUDITOR),
    _route("POST", "conditions", set_conditions, MAX_DOCUMENT),
    _route("POST", "approval", approve),
    _route("POST", "break-glass", break_glass),
    _route("POST", "disable", disable),
    _route("POST", "enable", enable),
    _route("POST", "generate", generate),
    _route("POST", "export", export),
    _route("POST", "rotation", rotate),
    _route("DELETE", "rotation", abort_rotation),
    _route("POST", "luks-header", record_header),
    Route("DELETE", "/cvm/v0/vm/<name>", Who.OPERATOR, forget_vm),
)
