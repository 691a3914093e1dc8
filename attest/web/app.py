"""The WSGI application of one listener, made from its route table.

Every request passes one gate: the route must be in the table, the caller must be who the table says, the body must fit.
Only then does a handler run. Time is read once per request.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from flask import Flask, Response, g, request
from werkzeug.exceptions import MethodNotAllowed

from attest.audit.record import Actor
from attest.broker.answer_proof import CHALLENGE, Exchange, prove
from attest.broker.errors import Overloaded, SessionRefused, TooMany
from attest.broker.protocol import MAX_ATTEST_BODY
from attest.broker.release import Credential
from attest.broker.service import Service
from attest.store.errors import StoreUnavailable
from attest.web.load import HERE
from attest.web.logs import FIELDS
from attest.web.metrics import NO_ROUTE, Metrics
from attest.web.principals import CallerOf, Who, may, session_of, token_of
from attest.web.problems import OperatorRequired, problem_response
from attest.web.routes import Call, Route

Clock = Callable[[], datetime]
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
GUESTS, OPERATORS = "guests", "operators"
_HEALTH = ("/healthz", "/readyz")
_UNDER_WAY = ("/kbs/v0/attest", "/kbs/v0/resource/")
UNDER_WAY = 4
"""So many times as many connections may wait before a guest that has a challenge is turned away: what was done for it
would be lost, and real clients try a challenge again, but not a resource.
"""
_log = logging.getLogger("attest.requests")


def utc_now() -> datetime:
    """The current time, aware."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Watch:
    """Where an application counts: under which listener's name, in which counters."""

    listener: str
    metrics: Metrics


def create_app(
    service: Service,
    routes: Sequence[Route],
    caller_of: CallerOf,
    clock: Clock = utc_now,
    watch: Watch | None = None,
) -> Flask:
    """An application that serves ``routes`` and nothing else."""
    watch = watch or Watch(GUESTS, Metrics({GUESTS: [route.path for route in routes]}))
    app = Flask("attest", static_folder=None)
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    for number, route in enumerate(routes):
        view = _view(service, route, caller_of, clock, watch.metrics)
        app.add_url_rule(
            route.path, endpoint=f"{number}", view_func=view, methods=[route.method], provide_automatic_options=False
        )
    app.register_error_handler(Exception, problem_response)
    app.extensions["attest.metrics"] = watch.metrics
    app.before_request(_begin)
    app.before_request(lambda: _admit(service, watch))
    app.after_request(lambda response: _prove(service, clock(), response))
    app.after_request(lambda response: _finish(response, watch))
    return app


def _view(
    service: Service, route: Route, caller_of: CallerOf, clock: Clock, metrics: Metrics
) -> Callable[..., Response]:
    def view(**arguments: str) -> Response:
        if request.method != route.method:  # werkzeug adds HEAD to GET; a HEAD must not release a key into nothing
            raise MethodNotAllowed([route.method])
        shown = Credential(session_of(request.cookies), token_of(request.headers.get("Authorization")))
        now = clock()
        actor = caller_of(request.environ, now) if route.who in (Who.OPERATOR, Who.AUDITOR) else None
        g.caller = None if actor is None else str(actor)
        if not may(route.who, actor):
            raise OperatorRequired(f"{route.method} here is for {route.who.value}: {_lacking(actor)}")
        if route.who is Who.SESSION and shown.session_id is None:
            raise SessionRefused("session: the request carries no session cookie: ask for a challenge first")
        if route.who is Who.GUEST and shown == Credential():
            raise SessionRefused("session: the request carries neither session cookie nor token: attest first")
        request.max_content_length = route.max_body
        body = request.get_data(cache=False) if route.max_body else b""
        HERE.read()
        query, peer = request.args.to_dict(), request.remote_addr
        return route.handler(Call(service, now, body, query, arguments, shown, actor, metrics, peer))

    return view


def _lacking(actor: Actor | None) -> str:
    return "who asks showed nothing that makes one" if actor is None else f"who asks is an {actor.kind}"


def _begin() -> None:
    g.started = time.perf_counter()


def _admit(service: Service, watch: Watch) -> None:
    """Turn away what is too much before anything is done for it. Raises Overloaded, TooMany."""
    if request.path in _HEALTH or watch.listener != GUESTS:
        return
    try:
        if HERE.queued > (most := service.limits.queue * (UNDER_WAY if _is_under_way(request.path) else 1)):
            raise Overloaded(f"overloaded: {HERE.queued} connections wait, at most {most} may")
        service.limits.address.check((request.remote_addr or "").encode())
    except (Overloaded, TooMany):
        # What the client sends is read, or the kernel would reset the connection and the answer with it.
        request.max_content_length = MAX_ATTEST_BODY
        request.get_data(cache=False)
        raise


def _is_under_way(path: str) -> bool:
    return path.startswith(_UNDER_WAY)


def _prove(service: Service, now: datetime, response: Response) -> Response:
    """Sign the answer for a guest that asked for a proof; an answer that cannot be signed now goes without."""
    challenge = request.headers.get("Cvm-Challenge", "")
    if service.answer_key is None or not CHALLENGE.fullmatch(challenge):
        return response
    exchange = Exchange(challenge, request.method, request.full_path.removesuffix("?"), response.status_code,
                        response.get_data())  # fmt: skip
    shown = Credential(session_of(request.cookies))
    try:
        response.headers["Cvm-Proof"] = prove(service, service.answer_key, exchange, shown, now)
    except StoreUnavailable as exc:
        _log.error("no proof for an answer: %s", exc.message)
    return response


def _finish(response: Response, watch: Watch) -> Response:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)  # tiles of the log may be kept, and say so
    seconds = time.perf_counter() - g.started
    rule = NO_ROUTE if request.url_rule is None else request.url_rule.rule
    watch.metrics.request(watch.listener, rule, response.status_code, seconds)
    fields = {
        "method": request.method[:20],
        "path": request.path[:200],
        "route": rule,
        "status": response.status_code,
        "milliseconds": round(seconds * 1000, 3),
        "peer": request.remote_addr,
    }
    if g.get("caller"):
        fields["caller"] = g.caller
    if "fault" in g:
        watch.metrics.failure(g.fault)
        fields |= {"fault": g.fault, "code": g.get("code")}
    _log.info("request", extra={FIELDS: fields})
    return response
