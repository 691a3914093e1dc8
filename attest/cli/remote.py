"""Operators' verbs over a running service instead of in its database: with ``--service`` the same verb is a request.

The service then knows who asks, by certificate or token, and the record says so; without it the verb works on the
machine itself, as whoever runs it.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attest.cli.common import add_config, print_fields, print_json, read_file
from attest.cli.key_disk import digest_of, header_request, rotate_request
from attest.cli.key_link import link_request
from attest.cli.operator import add_operator, ask_json
from policy.vocab import ResourcePath

MAX_STDIN = 2 << 20


@dataclass(frozen=True, slots=True)
class Request:
    """One request to the operators' listener."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


Requests = Mapping[str, Callable[[Namespace], Request]]
"""Of one verb, by action; what is not in it cannot be asked of a service."""


def add_where(parser: ArgumentParser) -> None:
    """``--config`` for here, ``--service`` and who asks for there."""
    add_config(parser)
    add_operator(parser, required=False, where="ask this service, https://HOST:PORT, not the database")


def asked(
    args: Namespace, requests: Requests, verb: str, schema: str, show: Callable[[Any], None] | None = None
) -> bool:
    """Whether ``--service`` was given; then the answer was asked for and printed. ``show`` prints it for people."""
    if getattr(args, "service", None) is None:
        return False
    found = answer(args, requests[args.action](args))
    if args.json:
        print_json({"schema": f"attest.{verb}.{schema}/1", **found})
    elif show is not None:
        show(found)
    else:
        print_fields({name: value for name, value in found.items() if name != "schema"})
    return True


def answer(args: Namespace, request: Request) -> dict[str, Any]:
    """What the service of ``--service`` says. Raises as :func:`ask` does."""
    found: dict[str, Any] = ask_json(args, request.method, request.path, dict(request.query), request.body)
    return found


def on_resource(method: str, verb: str, *query: str, body: bool = False) -> Callable[[Namespace], Request]:
    """A request about ``args.path``; ``query`` names options that go along, with ``body`` the file goes."""

    def request(args: Namespace) -> Request:
        data = read_file(Path(args.file), "conditions") if body else None
        sent = {name: str(getattr(args, name)) for name in query}
        return Request(method, f"/cvm/v0/{verb}/{ResourcePath.parse(args.path)}", sent, data)

    return request


def put_resource(args: Namespace) -> Request:
    """``key put``: the value from its descriptor."""
    with os.fdopen(args.fd, "rb", closefd=False) as source:
        value = source.read(MAX_STDIN)
    query = {"replace": "1" if args.replace else "0"}
    if args.only_for:
        query["for"] = ",".join(args.only_for)
    header = None if args.luks_header is None else digest_of(args.luks_header)
    if header is not None:
        query["luks-header"] = header
    return Request("POST", f"/kbs/v0/resource/{ResourcePath.parse(args.path)}", query, value)


def generate(args: Namespace) -> Request:
    """``key generate``."""
    query = {"bytes": str(args.bytes), "replace": "1" if args.replace else "0"}
    return Request("POST", f"/cvm/v0/generate/{ResourcePath.parse(args.path)}", query)


KEY: Requests = {
    "put": put_resource,
    "delete": lambda args: Request("DELETE", f"/kbs/v0/resource/{ResourcePath.parse(args.path)}"),
    "list": lambda args: Request("GET", "/kbs/v0/resource", {"history": "1" if args.history else "0"}),
    "generate": generate,
    "show": on_resource("GET", "resource"),
    "conditions": on_resource("POST", "conditions", body=True),
    "disable": on_resource("POST", "disable", "reason"),
    "enable": on_resource("POST", "enable", "reason"),
    "break-glass": on_resource("POST", "break-glass", "reason", "minutes"),
    "rotate": rotate_request,
    "luks-header": header_request,
    "link": link_request,
    "rewrap": lambda args: Request("POST", "/cvm/v0/rewrap"),
}
