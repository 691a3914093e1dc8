"""The dashboard's WSGI application: pages from a table, GET only, and one set of headers on everything.

There is no route that changes a rule or a record, and no script. Without the pages' own log-in there is no form and no
cookie either, so there is nothing for a forged request to do: the application refuses every method but GET and HEAD
before it looks at the path. With it there are cookies, and one POST, which ends the session that makes it (login.py).
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.resources import files
from urllib.parse import quote

from flask import Flask, Response, g, render_template, request
from werkzeug.exceptions import HTTPException

from attest.audit.canonical import rfc3339
from attest.errors import AttestError
from attest.keys.client_crl import CertificateRevoked
from attest.store.errors import NotFound
from attest.web.dashboard.house import Ask, House
from attest.web.dashboard.login import BEGIN, LOGOUT, OPEN, Login
from attest.web.dashboard.pages import PAGES, PROOF, Page
from attest.web.dashboard.proof import proof_download
from attest.web.dashboard.render import fit
from attest.web.dashboard.visitors import Visitor, Visitors
from attest.web.logs import FIELDS
from attest.web.oidc.code_flow import CALLBACK, LoginRefused
from attest.web.oidc.errors import BearerRefused
from policy.errors import CvmError

Clock = Callable[[], datetime]
METHODS = ("GET", "HEAD")
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",  # with no-referrer a browser hides from us where a form was sent from
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
STRICT_TRANSPORT = "max-age=31536000"
_STATIC = {"/style.css": "text/css; charset=utf-8", "/icon.svg": "image/svg+xml"}
_log = logging.getLogger("attest.requests")


def utc_now() -> datetime:
    """The current time, aware."""
    return datetime.now(UTC)


def create_dashboard(house: House, visitors: Visitors, clock: Clock = utc_now, login: Login | None = None) -> Flask:
    """An application with the pages of the table, each with its ``.json`` twin, the addresses of ``login`` where there
    is one, and nothing else.
    """
    app = Flask("attest.web.dashboard", static_folder=None)
    app.url_map.strict_slashes = False
    fit(app)
    for page in PAGES:
        _add(app, page.path, page.endpoint, _html(page, house, clock))
        _add(app, page.path + ".json", page.endpoint + ".json", _json(page, house, clock))
    _add(app, "/", "front", _html(PAGES[0], house, clock))
    _add(app, PROOF, "proof", lambda **arguments: proof_download(house, **arguments))
    for path in _STATIC:
        _add(app, path, path, _file(path))
    if login is not None:
        _add_login(app, login, clock)
    app.before_request(lambda: _gate(visitors, login, clock()))
    app.after_request(lambda response: _finish(response, visitors))
    app.register_error_handler(Exception, _problem)
    return app


def _add(app: Flask, path: str, endpoint: str, view: Callable[..., Response], method: str = "GET") -> None:
    app.add_url_rule(
        path, endpoint=endpoint.replace(".", "-"), view_func=view, methods=[method], provide_automatic_options=False
    )


def _add_login(app: Flask, login: Login, clock: Clock) -> None:
    _add(app, BEGIN, BEGIN, lambda: login.begin(clock()))
    _add(app, CALLBACK, CALLBACK, lambda: login.callback(clock()))
    _add(app, LOGOUT, LOGOUT, lambda: login.logout(g.visitor), "POST")


def _gate(visitors: Visitors, login: Login | None, now: datetime) -> Response | None:
    g.started = time.perf_counter()
    g.visitor = Visitor("nobody")
    if request.method not in METHODS and (login is None or not login.takes(request.method, request.path)):
        return _refusal(405, "Only for reading", "These pages change nothing: only GET and HEAD are answered.")
    found = visitors.admit(request.environ, now)
    if found is None and login is not None:
        found = login.visitor(now)
        if found is None:
            return None if request.path in OPEN else _ask_to_log_in()
    if found is None:
        return _refusal(403, "Not for you", "No proof of an operator or auditor, or another host name than ours.")
    g.visitor = found
    return None


def _ask_to_log_in() -> Response:
    to = request.full_path.removesuffix("?") if request.method == "GET" else "/"
    return _refusal(
        401, "Not logged in", "These pages are for operators and auditors.", log_in=f"{BEGIN}?to={quote(to)}"
    )


def _html(page: Page, house: House, clock: Clock) -> Callable[..., Response]:
    def view(**arguments: object) -> Response:
        data = _data(page, house, clock(), arguments)
        text = render_template(page.template, page=page, twin=_twin(), visitor=g.visitor, now=clock(), **data)
        return Response(text, mimetype="text/html")

    return view


def _json(page: Page, house: House, clock: Clock) -> Callable[..., Response]:
    def view(**arguments: object) -> Response:
        data = _data(page, house, clock(), arguments)
        body = {"schema": page.schema, "generated": rfc3339(clock()), **data}
        return Response(json.dumps(body, indent=1) + "\n", mimetype="application/json")

    return view


def _data(page: Page, house: House, now: datetime, arguments: dict[str, object]) -> dict[str, object]:
    with house.database.read() as tx:
        return page.build(Ask(house, tx, now, request.args.to_dict(), arguments))


def _twin() -> str:
    path = "/overview" if request.path == "/" else request.path.rstrip("/")
    query = request.query_string.decode("ascii", "replace")
    return f"{path}.json" + (f"?{query}" if query else "")


def _file(path: str) -> Callable[[], Response]:
    data = (files("attest.web.dashboard") / "static" / path[1:]).read_bytes()
    return lambda: Response(data, content_type=_STATIC[path])


def _finish(response: Response, visitors: Visitors) -> Response:
    for name, value in HEADERS.items():
        response.headers[name] = value
    if not visitors.plain:
        response.headers["Strict-Transport-Security"] = STRICT_TRANSPORT
    fields = {
        "method": request.method[:20],
        "path": request.path[:200],
        "status": response.status_code,
        "milliseconds": round((time.perf_counter() - g.started) * 1000, 3),
        "peer": request.remote_addr,
        "visitor": f"{g.visitor.role}:{g.visitor.name}",
    }
    _log.info("request", extra={FIELDS: fields})
    return response


def _problem(error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return _refusal(error.code or 500, error.name, error.description or "")
    if isinstance(error, LoginRefused):
        _log.warning("%s", error.message)
        return _refusal(403, "The log-in did not succeed", error.message, log_in=BEGIN)
    if isinstance(error, BearerRefused):
        refusal = _refusal(401, "No usable bearer token", error.message)
        refusal.headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'
        return refusal
    if isinstance(error, CertificateRevoked):
        return _refusal(403, "Not for you", error.message)
    if isinstance(error, NotFound):
        return _refusal(404, "Not found", error.message)
    if isinstance(error, AttestError) and error.kind == "unavailable":
        _log.error("unavailable: %s", error.message)
        return _refusal(503, "Not available now", f"{error.code}: try again in a moment.")
    if isinstance(error, CvmError):
        return _refusal(409, "This record cannot be shown", error.message)
    reference = secrets.token_hex(8)
    _log.error("internal error %s", reference, exc_info=error)
    return _refusal(500, "Internal error", f"Our fault; in the log under {reference}.")


def _refusal(status: int, title: str, text: str, log_in: str | None = None) -> Response:
    if request.path.endswith(".json"):
        body = json.dumps({"schema": "attest.dashboard.problem/1", "status": status, "title": title, "detail": text})
        return Response(body + "\n", status=status, mimetype="application/json")
    page = render_template("problem.html", title=title, text=text, visitor=g.visitor, status=status, log_in=log_in)
    return Response(page, status=status, mimetype="text/html")
