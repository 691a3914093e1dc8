"""What handlers share: a request's path, query and caller read the same way by all of them, an answer in JSON."""

from __future__ import annotations

import json

from flask import Response

from attest.broker.errors import RequestMalformed
from attest.broker.operations import By
from attest.web.digits import digits
from attest.web.principals import Who, may
from attest.web.problems import OperatorRequired
from attest.web.routes import Call
from policy.vocab import ResourcePath

RESOURCE = "<repository>/<kind>/<tag>"
"""A resource in the path of a route, for :func:`resource_path`."""


def json_response(value: object, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(json.dumps(value), status=status, mimetype="application/json")


def resource_path(call: Call) -> ResourcePath:
    """The path of the URL as a resource path; MalformedInput for one that cannot be."""
    return ResourcePath.parse("/".join(call.arguments[name] for name in ("repository", "kind", "tag")))


def operator(call: Call) -> By:
    """Who asks. Raises OperatorRequired."""
    if call.actor is None or not may(Who.OPERATOR, call.actor):
        raise OperatorRequired("operators only")
    return By(call.actor, call.now)


def flag(call: Call, name: str) -> bool:
    """``1`` or ``0``, or absent for ``0``. Raises RequestMalformed."""
    value = call.query.get(name, "0")
    if value not in ("0", "1"):
        raise RequestMalformed(f"{name}: got {value[:20]!r}, want 0 or 1")
    return value == "1"


def number(call: Call, name: str, most: int = 7) -> int | None:
    """A number of at most so many digits; ``None`` where it is absent. Raises RequestMalformed."""
    value = call.query.get(name)
    if value is None:
        return None
    if (found := digits(value, most)) is None:
        raise RequestMalformed(f"{name}: got {value[:20]!r}, want a number")
    return found


def names(call: Call, name: str) -> tuple[str, ...] | None:
    """Several, with commas between them; ``None`` where it is absent."""
    value = call.query.get(name)
    return None if value is None else tuple(value.split(","))
