"""The WSGI application of one listener, made from its route table.

Every request passes :mod:`attest.web.gate`. Then the route must be in the table, the caller must be who the table says,
the body must fit. Only then does a handler run. Time is read once per request.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from flask import Flask, Response, request
from werkzeug.exceptions import MethodNotAllowed

from attest.audit.record import Actor
from attest.broker.answer_proof import CHALLENGE, Exchange, prove
from attest.broker.errors import RequestMalformed, SessionRefused
from attest.broker.protocol import MAX_ATTEST_BODY
from attest.broker.release import Credential
from attest.broker.service import Service
from attest.store.errors import StoreUnavailable
from attest.web.duties import EVERYTHING, Roles
from attest.web.gate import GUESTS, Gate, Watch
from attest.web.load import HERE
from attest.web.metrics import Metrics
from attest.web.principals import CallerOf, Who, may, sent_by_page, session_of, token_of
from attest.web.problems import NOTED, Noted, OperatorRequired, problem_response
from attest.web.routes import Call, Route

Clock = Callable[[], datetime]
_PEOPLE = (Who.OPERATOR, Who.AUDITOR)
_log = logging.getLogger("attest.requests")


def utc_now() -> datetime:
    """The current time, aware."""
    return datetime.now(UTC)


def create_app(
    service: Service,
    routes: Sequence[Route],
    caller_of: CallerOf,
    clock: Clock = utc_now,
    watch: Watch | None = None,
    roles: Roles = EVERYTHING,
) -> Flask:
    """An application that serves ``routes`` and nothing else."""
    watch = watch or Watch(GUESTS, Metrics({GUESTS: [route.path for route in routes]}))
    app = Flask("attest", static_folder=None)
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    for number, route in enumerate(routes):
        view = _view(service, route, caller_of, clock, watch.metrics, roles)
        app.add_url_rule(
            route.path, endpoint=f"{number}", view_func=view, methods=[route.method], provide_automatic_options=False
        )
    app.register_error_handler(Exception, lambda error: problem_response(error, request.environ[NOTED]))
    app.extensions["attest.metrics"] = watch.metrics
    app.before_request(_turn_away)
    app.after_request(lambda response: _prove(service, clock(), response))
    app.wsgi_app = Gate(app.wsgi_app, service, watch)  # type: ignore[method-assign]  # Flask's own way to wrap it
    return app


def _view(
    service: Service, route: Route, caller_of: CallerOf, clock: Clock, metrics: Metrics, roles: Roles
) -> Callable[..., Response]:
    methods = route.methods

    def view(**arguments: str) -> Response:
        noted: Noted = request.environ[NOTED]
        noted.route = route.path
        if request.method not in methods:  # werkzeug adds HEAD to GET
            raise MethodNotAllowed(methods)
        shown = Credential(session_of(request.cookies), token_of(request.headers.get("Authorization")))
        now = clock()
        actor = caller_of(request.environ, now) if route.who in _PEOPLE else None
        noted.caller = None if actor is None else str(actor)
        if route.who in _PEOPLE and route.method != "GET" and sent_by_page(request.environ):
            raise OperatorRequired("a page in a browser asks for this: use a program", code="operator.page")
        if not may(route.who, actor):
            raise OperatorRequired(f"{route.method} here is for {route.who.value}: {_lacking(actor)}")
        roles.check(route.duty, actor, arguments)
        if route.who is Who.SESSION and shown.session_id is None:
            raise SessionRefused("session: the request carries no session cookie: ask for a challenge first")
        if route.who is Who.GUEST and shown == Credential():
            raise SessionRefused("session: the request carries neither session cookie nor token: attest first")
        if route.who in _PEOPLE:
            _refuse_extras(route)
        request.max_content_length = route.max_body
        body = request.get_data(cache=False) if route.max_body else b""
        HERE.read()
        query, peer = request.args.to_dict(), request.remote_addr
        return route.handler(Call(service, now, body, query, arguments, shown, actor, metrics, peer, roles))

    return view


def _refuse_extras(route: Route) -> None:
    """Raise RequestMalformed for what the route does not read."""
    for name, values in request.args.lists():
        if name not in route.query:
            wanted = ", ".join(route.query) or "none"
            raise RequestMalformed(f"query: {name[:40]!r} is unknown here, want {wanted}")
        if len(values) > 1:
            raise RequestMalformed(f"query: {name} is there {len(values)} times, want it once")
    if request.content_length and not route.max_body:
        raise RequestMalformed(f"body: got {request.content_length} bytes, want none: values go into the query")


def _lacking(actor: Actor | None) -> str:
    return "who asks showed nothing that makes one" if actor is None else f"who asks is an {actor.kind}"


def _turn_away() -> None:
    """Raise what the gate found to be too much: only a guest that asked for a proof of its answer gets so far."""
    refused = request.environ[NOTED].refused
    if refused is not None:
        # What the client sends is read, or the kernel would reset the connection and the answer with it.
        request.max_content_length = MAX_ATTEST_BODY
        request.get_data(cache=False)
        raise refused


def _prove(service: Service, now: datetime, response: Response) -> Response:
    """Sign the answer for a guest that asked for a proof; an answer that cannot be signed now goes without."""
    challenge = request.headers.get("Cvm-Challenge", "")
    if service.answer_key is None or not CHALLENGE.fullmatch(challenge):
        return response
    target = request.environ["RAW_URI"]  # as it was sent: decoded, another request's would read the same
    exchange = Exchange(challenge, request.method, target, response.status_code, response.get_data())
    shown = Credential(session_of(request.cookies))
    try:
        response.headers["Cvm-Proof"] = prove(service, service.answer_key, exchange, shown, now)
    except StoreUnavailable as exc:
        _log.error("no proof for an answer: %s", exc.message)
    return response
