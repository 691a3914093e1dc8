"""The operators' routes for hosts whose word about launches counts, and for launch records that come by hand."""

from __future__ import annotations

from flask import Response

from attest.broker.hosts import add_host, host_json, retire_host
from attest.broker.launch_statement import MAX_LAUNCH
from attest.broker.launches import launched_json, record_launch
from attest.settings_roles import Duty
from attest.store import hosts
from attest.web.handling import json_response, operator
from attest.web.principals import Who
from attest.web.routes import Call, Route

MAX_KEY = 4096
_HOST = "/cvm/v0/host"


def listed(call: Call) -> Response:
    """``GET``: every host, retired ones too."""
    with call.service.database.read() as tx:
        found = hosts.every(tx)
    return json_response({"schema": "attest.host.list/1", "hosts": [host_json(host) for host in found]})


def add(call: Call) -> Response:
    """``POST`` a public key (PEM, Ed25519 or P-384): believe what is signed with it."""
    host = add_host(call.service.database, call.arguments["name"], call.body, operator(call))
    return json_response({"name": host.name, "key_id": host.key_id})


def retire(call: Call) -> Response:
    """``DELETE``: believe the host no more."""
    name = call.arguments["name"]
    retire_host(call.service.database, name, operator(call))
    return json_response({"name": name, "retired": True})


def record(call: Call) -> Response:
    """``POST`` a host's signed statement about a launch; the record says which operator brought it."""
    return json_response(launched_json(record_launch(call.service.database, call.body, operator(call))))


HOST_ROUTES = (
    Route("GET", _HOST, Who.AUDITOR, listed),
    Route("POST", f"{_HOST}/<name>", Who.OPERATOR, add, MAX_KEY, duty=Duty.HOSTS),
    Route("DELETE", f"{_HOST}/<name>", Who.OPERATOR, retire, duty=Duty.HOSTS),
    Route("POST", "/cvm/v0/launch-record", Who.OPERATOR, record, MAX_LAUNCH, duty=Duty.HOSTS),
)
