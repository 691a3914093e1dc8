"""The WSGI application of one listener, made from its route table.

Every request passes :mod:`attest.web.gate`. Then the route must be in the table, the caller must be who the table says,
the body must fit. Only then does a handler run. Time is read once per request.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from attest.audit.record import Actor
from attest.broker.answer_proof import CHALLENGE, Exchange, prove
from attest.broker.errors import SessionRefused
from attest.broker.protocol import MAX_ATTEST_BODY
from attest.broker.release import Credential
from attest.broker.service import Service
from attest.keys.signing import SigningKey
from attest.store.errors import StoreUnavailable
from attest.web.answers import Response
from attest.web.gate import GUESTS, Gate, Watch
from attest.web.load import HERE
from attest.web.metrics import Metrics
from attest.web.principals import SESSION_COOKIE, CallerOf, Who, may, session_of, token_of
from attest.web.problems import Noted, OperatorRequired, problem_response
from attest.web.requests import Environ, body_of, cookie_of, path_of, query_of, target_of
from attest.web.routes import Call, Route
from attest.web.routing import Table

Clock = Callable[[], datetime]
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
) -> Gate:
    """An application that serves ``routes`` and nothing else."""
    watch = watch or Watch(GUESTS, Metrics({GUESTS: [route.path for route in routes]}))
    application = Application(service, Table(routes), caller_of, clock, watch.metrics)
    return Gate(application.answer, service, watch)


@dataclass(frozen=True, slots=True)
class Application:
    """Everything behind the gate."""

    service: Service
    table: Table
    caller_of: CallerOf
    clock: Clock
    metrics: Metrics

    def answer(self, environ: Environ, noted: Noted) -> Response:
        """The answer to one request, whatever it is; signed for a guest that asked for a proof."""
        now = self.clock()
        try:
            response = self._handled(environ, noted, now)
        except Exception as exc:  # noqa: BLE001  the one place where a defect becomes an answer
            response = problem_response(exc, noted)
        challenge, key = environ.get("HTTP_CVM_CHALLENGE"), self.service.answer_key
        if challenge is None or key is None or not CHALLENGE.fullmatch(challenge):
            return response
        return _proved(self.service, key, challenge, environ, response, now)

    def _handled(self, environ: Environ, noted: Noted, now: datetime) -> Response:
        if noted.refused is not None:  # only a guest that asked for a proof of its answer gets so far
            # What the client sends is read, or the kernel would reset the connection and the answer with it.
            body_of(environ, MAX_ATTEST_BODY)
            raise noted.refused
        route, arguments = self.table.find(environ["REQUEST_METHOD"], path_of(environ))
        noted.route = route.path
        shown = credential_of(environ)
        actor = self._actor(route, environ, noted, now)
        _check_guest(route, shown)
        body = body_of(environ, route.max_body) if route.max_body else b""
        HERE.read()
        peer: str | None = environ.get("REMOTE_ADDR")
        return route.handler(
            Call(self.service, now, body, query_of(environ), arguments, shown, actor, self.metrics, peer)
        )

    def _actor(self, route: Route, environ: Environ, noted: Noted, now: datetime) -> Actor | None:
        """Who asks on operators' routes. Raises OperatorRequired, and what the listener's way of knowing does."""
        if route.who not in (Who.OPERATOR, Who.AUDITOR):
            return None
        actor = self.caller_of(environ, now)
        noted.caller = None if actor is None else str(actor)
        if not may(route.who, actor):
            raise OperatorRequired(f"{route.method} here is for {route.who.value}: {_lacking(actor)}")
        return actor


def credential_of(environ: Environ) -> Credential:
    """What a guest shows."""
    return Credential(session_of(cookie_of(environ, SESSION_COOKIE)), token_of(environ.get("HTTP_AUTHORIZATION")))


def _check_guest(route: Route, shown: Credential) -> None:
    if route.who is Who.SESSION and shown.session_id is None:
        raise SessionRefused("session: the request carries no session cookie: ask for a challenge first")
    if route.who is Who.GUEST and shown == Credential():
        raise SessionRefused("session: the request carries neither session cookie nor token: attest first")


def _lacking(actor: Actor | None) -> str:
    return "who asks showed nothing that makes one" if actor is None else f"who asks is an {actor.kind}"


def _proved(
    service: Service, key: SigningKey, challenge: str, environ: Environ, response: Response, now: datetime
) -> Response:
    """``response`` with its proof; one that cannot be signed now goes without."""
    exchange = Exchange(challenge, environ["REQUEST_METHOD"], target_of(environ), response.status, response.data())
    shown = Credential(credential_of(environ).session_id)
    try:
        proof = prove(service, key, exchange, shown, now)
    except StoreUnavailable as exc:
        _log.error("no proof for an answer: %s", exc.message)
        return response
    return replace(response, headers={**response.headers, "Cvm-Proof": proof})
