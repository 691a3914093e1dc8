"""The operators' routes for reference values, and for guided upgrades from one to the next."""

from __future__ import annotations

from flask import Response

from attest.audit.canonical import rfc3339
from attest.broker import operations, upgrades
from attest.broker.upgrade_plan import RETIRE_DAYS, Plan, parse_end, progress_json
from attest.broker.upgrades import plan_json
from attest.broker.views import reference_json
from attest.settings_roles import Duty
from attest.store import rules
from attest.web.handling import json_response, names, number, operator
from attest.web.principals import Who
from attest.web.routes import Call, Route

MAX_REFERENCE = 2 << 20
_VALUES = "/cvm/v0/reference-value"


def add(call: Call) -> Response:
    """``POST`` a ``cvm.reference/1`` file. ``?next=OLD`` makes it the one that is to follow that value; then also
    ``?planned=``, ``?canary-vm=NAME,NAME``, ``?canary-chip=HEX,HEX``, ``?canary-releases=``."""
    query, service = call.query, call.service
    plan = Plan(
        query.get("next"),
        query.get("planned"),
        names(call, "canary-vm") or (),
        names(call, "canary-chip") or (),
        number(call, "canary-releases"),
    )
    value = operations.add_reference(service.database, call.body, operator(call), service.signers, plan.canary())
    return json_response({"name": value.name, "launch_digest": value.launch_digest.hex(), "follows": plan.follows})


def listed(call: Call) -> Response:
    """``GET``: every reference value, retired ones too."""
    with call.service.database.read() as tx:
        found = rules.all_references(tx)
    return json_response(
        {
            "schema": "attest.reference.list/1",
            "references": [reference_json(entry) | plan_json(entry, call.now) for entry in found],
        }
    )


def retire(call: Call) -> Response:
    """``DELETE``: take it out of force."""
    name = call.arguments["name"]
    operations.retire_reference(call.service.database, name, operator(call))
    return json_response({"name": name, "retired": True})


def promote(call: Call) -> Response:
    """``POST``: everybody may use it; ``?retire-old=`` says when the one it follows ends: days, a time, ``never``."""
    name, ends = call.arguments["name"], parse_end(call.query.get("retire-old", RETIRE_DAYS), call.now)
    old = upgrades.promote(call.service.database, name, ends, operator(call))
    return json_response({"name": name, "old": old, "old_retires": None if ends is None else rfc3339(ends)})


def progress(call: Call) -> Response:
    """``GET``: which VMs were last seen on the old value."""
    with call.service.database.read() as tx:
        found = upgrades.progress(tx, call.arguments["name"])
    return json_response({"schema": "attest.reference.progress/1", **progress_json(found, call.now)})


_PLAN = ("next", "planned", "canary-vm", "canary-chip", "canary-releases")
REFERENCE_ROUTES = (
    Route("POST", _VALUES, Who.OPERATOR, add, MAX_REFERENCE, duty=Duty.REFERENCE, query=_PLAN),
    Route("GET", _VALUES, Who.AUDITOR, listed),
    Route("DELETE", f"{_VALUES}/<name>", Who.OPERATOR, retire, duty=Duty.REFERENCE),
    Route("POST", f"{_VALUES}/<name>/promotion", Who.OPERATOR, promote, duty=Duty.REFERENCE, query=("retire-old",)),
    Route("GET", f"{_VALUES}/<name>/progress", Who.AUDITOR, progress),
)
