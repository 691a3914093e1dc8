"""The operators' routes for a stored resource: its conditions, approvals, break-glass, stopping it, its export."""

from __future__ import annotations

from collections.abc import Callable

from flask import Response

from attest.broker import lifecycle, operations, rotation
from attest.broker.conditions import RELEASE
from attest.broker.kv_link import MOUNT, KvLink, link_resource
from attest.broker.views import aborted_json, started_json
from attest.settings_roles import Duty
from attest.web.handling import RESOURCE, flag, json_response, names, number, operator, resource_path
from attest.web.principals import Who
from attest.web.routes import Call, Route
from policy.release_conditions import MAX_DOCUMENT


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
    done = lifecycle.approve(call.service.database, path, purpose, _minutes(call, 60), operator(call))
    found = {"record": done.record, "given": list(done.given), "need": done.need}
    return json_response({"path": path, "purpose": purpose, **found})


def break_glass(call: Call) -> Response:
    """``POST``: ``?reason=``, ``?minutes=``."""
    path, reason = resource_path(call), call.query.get("reason", "")
    minutes = _minutes(call, 15)
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
    path, replace, service = resource_path(call), flag(call, "replace"), call.service
    size = number(call, "bytes")
    version = operations.generate_resource(
        service.database, service.master_keys, path, 32 if size is None else size, replace, operator(call)
    )
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
    version = rotation.start(service.database, service.master_keys, path, number(call, "bytes"), operator(call))
    return json_response(started_json(path, version))


def abort_rotation(call: Call) -> Response:
    """``DELETE``: give that key up, as long as no guest has confirmed it."""
    path = resource_path(call)
    to_remove = rotation.abort(call.service.database, path, operator(call))
    return json_response(aborted_json(path, to_remove))


def record_header(call: Call) -> Response:
    """``POST``: ``?sha256=`` is the digest of the header of the disk this key opens; without it none is known."""
    path = resource_path(call)
    version = rotation.record_header(call.service.database, path, call.query.get("sha256"), operator(call))
    return json_response({"path": path, "version": version, "header": call.query.get("sha256")})


def link(call: Call) -> Response:
    """``POST``: the value is the secret at ``?kv-path=``, its ``?field=``, of the engine at ``?mount=``, and stays
    there; ``?kv-version=`` for that one only, ``?base64=1``, ``?replace=1`` and ``?for=`` as for one that is sent.

    Whoever may give it to guests under a path of their own may give them every secret that the service can read there.
    """
    call.roles.check(Duty.KEYS, call.actor, {})
    query, service = call.query, call.service
    wanted = KvLink(
        resource_path(call),
        query.get("kv-path", ""),
        query.get("field", ""),
        query.get("mount", MOUNT),
        number(call, "kv-version"),
        flag(call, "base64"),
        flag(call, "replace"),
        names(call, "for"),
    )
    return json_response(link_resource(service.database, service.master_keys, service.vault, wanted, operator(call)))


def forget_vm(call: Call) -> Response:
    """``DELETE``: ``?reason=``; the VM may come up on another machine."""
    vm = call.arguments["name"]
    known = lifecycle.forget_vm(call.service.database, vm, call.query.get("reason", ""), operator(call))
    return json_response({"vm": vm, "launches": known})


def _minutes(call: Call, otherwise: int) -> int:
    found = number(call, "minutes")
    return otherwise if found is None else found


def _switch(call: Call, disabled: bool) -> Response:
    path = resource_path(call)
    lifecycle.set_disabled(call.service.database, path, disabled, call.query.get("reason", ""), operator(call))
    return json_response({"path": path, "disabled": disabled})


def _route(
    method: str,
    verb: str,
    handler: Callable[[Call], Response],
    max_body: int = 0,
    who: Who = Who.OPERATOR,
    duty: Duty | None = None,
    query: tuple[str, ...] = (),
) -> Route:
    return Route(method, f"/cvm/v0/{verb}/{RESOURCE}", who, handler, max_body, duty, query)


_LINK = ("kv-path", "field", "mount", "kv-version", "base64", "replace", "for")
LIFECYCLE_ROUTES = (
    _route("GET", "resource", show, who=Who.AUDITOR),
    _route("POST", "conditions", set_conditions, MAX_DOCUMENT, duty=Duty.KEYS),
    _route("POST", "approval", approve, duty=Duty.APPROVAL, query=("purpose", "minutes")),
    _route("POST", "break-glass", break_glass, duty=Duty.BREAK_GLASS, query=("reason", "minutes")),
    _route("POST", "disable", disable, duty=Duty.KEYS, query=("reason",)),
    _route("POST", "enable", enable, duty=Duty.KEYS, query=("reason",)),
    _route("POST", "generate", generate, duty=Duty.KEYS, query=("bytes", "replace")),
    _route("POST", "export", export, duty=Duty.EXPORT, query=("reason",)),
    _route("POST", "rotation", rotate, duty=Duty.KEYS, query=("bytes",)),
    _route("DELETE", "rotation", abort_rotation, duty=Duty.KEYS),
    _route("POST", "luks-header", record_header, duty=Duty.KEYS, query=("sha256",)),
    _route("POST", "link", link, duty=Duty.KEYS, query=_LINK),
    Route("DELETE", "/cvm/v0/vm/<name>", Who.OPERATOR, forget_vm, duty=Duty.VMS, query=("reason",)),
)
