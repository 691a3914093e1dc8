"""The WSGI application of one listener, made from its route table.

Every request passes one gate: the route must be in the table, the caller must be who the table says, the body must fit.
Only then does a handler run. Time is read once per request.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from flask import Flask, Response, request
from werkzeug.exceptions import MethodNotAllowed

from attest.broker.errors import SessionRefused
from attest.broker.release import Credential
from attest.broker.service import Service
from attest.web.principals import OperatorOf, Who, session_of, token_of
from attest.web.problems import OperatorRequired, problem_response
from attest.web.routes import Call, Route

Clock = Callable[[], datetime]
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
_log = logging.getLogger("attest.requests")


def utc_now() -> datetime:
    """The current time, aware."""
    return datetime.now(UTC)


def create_app(service: Service, routes: Sequence[Route], operator_of: OperatorOf, clock: Clock = utc_now) -> Flask:
    """An application that serves ``routes`` and nothing else."""
    app = Flask("attest", static_folder=None)
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    for number, route in enumerate(routes):
        view = _view(service, route, operator_of, clock)
        app.add_url_rule(
            route.path, endpoint=f"{number}", view_func=view, methods=[route.method], provide_automatic_options=False
        )
    app.register_error_handler(Exception, problem_response)
    app.after_request(_finish)
    return app


def _view(service: Service, route: Route, operator_of: OperatorOf, clock: Clock) -> Callable[..., Response]:
    def view(**arguments: str) -> Response:
        if request.method != route.method:  # werkzeug adds HEAD to GET; a HEAD must not release a key into nothing
            raise MethodNotAllowed([route.method])
        shown = Credential(session_of(request.cookies), token_of(request.headers.get("Authorization")))
        actor = operator_of(request.environ) if route.who is Who.OPERATOR else None
        if route.who is Who.OPERATOR and actor is None:
            raise OperatorRequired("operators only: no client certificate of an operator")
        if route.who is Who.SESSION and shown.session_id is None:
            raise SessionRefused("session: the request carries no session cookie: ask for a challenge first")
        if route.who is Who.GUEST and shown == Credential():
            raise SessionRefused("session: the request carries neither session cookie nor token: attest first")
        request.max_content_length = route.max_body
        body = request.get_data(cache=False) if route.max_body else b""
        return route.handler(Call(service, clock(), body, request.args.to_dict(), arguments, shown, actor))

    return view


def _finish(response: Response) -> Response:
    for name, value in _HEADERS.items():
        response.headers[name] = value
    _log.info("%s %.200r %d", request.method, request.path, response.status_code)
    return response
