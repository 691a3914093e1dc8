"""The operators' routes for the cache of endorsements and collateral."""

from __future__ import annotations

from flask import Response

from attest.broker import collateral_admin
from attest.evidence.bundle import MAX_BUNDLE
from attest.settings_roles import Duty
from attest.web.handling import flag, json_response, operator
from attest.web.principals import Who
from attest.web.routes import Call, Route

MAX_LIST = 4096
_COLLATERAL = "/cvm/v0/collateral"


def status(call: Call) -> Response:
    """``GET``: what is cached, and what expires when."""
    return json_response({"schema": "attest.collateral.status/1", **collateral_admin.status(call.service, call.now)})


def fetch(call: Call) -> Response:
    """``POST`` names of things, one on a line; ``?refresh=1`` asks again for what is cached."""
    wanted = call.body.decode("ascii", "replace").split()
    found = collateral_admin.fetch(call.service, wanted, operator(call), refresh=flag(call, "refresh"))
    return json_response({"schema": "attest.collateral.fetch/1", "items": found})


def load(call: Call) -> Response:
    """``POST`` a bundle, or a file with certificates, documents or lists: all of it is verified, then stored."""
    found = collateral_admin.load(call.service, call.body, operator(call))
    return json_response({"schema": "attest.collateral.import/1", "items": found})


COLLATERAL_ROUTES = (
    Route("GET", _COLLATERAL, Who.AUDITOR, status),
    Route("POST", f"{_COLLATERAL}/fetch", Who.OPERATOR, fetch, MAX_LIST, duty=Duty.COLLATERAL, query=("refresh",)),
    Route("POST", f"{_COLLATERAL}/import", Who.OPERATOR, load, MAX_BUNDLE, duty=Duty.COLLATERAL),
)
