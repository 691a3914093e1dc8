"""The pages' own log-in: two addresses that begin and end a login, and one that ends a session.

The cookie of a session can be sent by this host over TLS only (``__Host-``, Secure), is seen by no script (HttpOnly),
and goes along with no request that another site makes but a link to a page (SameSite=Lax): pages change nothing. What
does change something, the end of a session, is a POST that must come from our own origin and bring the word that only a
page of that session holds.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime

from flask import Response, request

from attest.web.dashboard.sessions import Sessions
from attest.web.dashboard.visitors import Visitor
from attest.web.oidc.code_flow import CALLBACK, PENDING, CodeFlow, LoginRefused

BEGIN, LOGOUT = "/login", "/logout"
OPEN = (BEGIN, CALLBACK, "/style.css", "/icon.svg")
"""What somebody without a session may ask for."""
SESSION, PENDING_LOGIN = "__Host-attest-session", "__Host-attest-login"
_MAX_TO, _MAX_FORM = 500, 1024


@dataclass(frozen=True, slots=True)
class Login:
    """Logins at one provider, and who is logged in."""

    flow: CodeFlow
    sessions: Sessions

    def takes(self, method: str, path: str) -> bool:
        """Whether this is the one request that is not for reading."""
        return (method, path) == ("POST", LOGOUT)

    def visitor(self, now: datetime) -> Visitor | None:
        """Whose session the request shows."""
        return self.sessions.visitor(request.cookies.get(SESSION, ""), now)

    def begin(self, now: datetime) -> Response:
        """``GET /login?to=PAGE``: to the provider."""
        where, sealed = self.flow.begin(inside(request.args.get("to", "/")), now)
        answer = Response(status=303, headers={"Location": where})
        _set(answer, PENDING_LOGIN, sealed, int(PENDING.total_seconds()))
        return answer

    def callback(self, now: datetime) -> Response:
        """``GET /login/callback``: back from the provider. Raises what :meth:`CodeFlow.finish` does."""
        repeated = [name for name in request.args if len(request.args.getlist(name)) > 1]
        if repeated:
            raise LoginRefused(f"login: the answer holds {repeated[0][:20]} twice")
        actor, to = self.flow.finish(request.args.to_dict(), request.cookies.get(PENDING_LOGIN, ""), now)
        self.sessions.close(request.cookies.get(SESSION, ""))
        answer = Response(status=303, headers={"Location": to})
        shown = self.sessions.open(Visitor(actor.kind, actor.name), now)
        _set(answer, SESSION, shown, int(self.sessions.life.total_seconds()))
        _set(answer, PENDING_LOGIN, "", 0)
        return answer

    def logout(self, visitor: Visitor) -> Response:
        """``POST /logout``: end the session. Raises LoginRefused for a request of another site."""
        request.max_content_length = _MAX_FORM
        if request.headers.get("Origin") != self.flow.login.origin:
            raise LoginRefused("logout: the request is not from these pages (Origin)", code="login.origin")
        word = request.form.get("csrf", "")
        if not visitor.csrf or not hmac.compare_digest(word.encode(), visitor.csrf.encode()):
            raise LoginRefused("logout: the request is not from a page of this session", code="login.csrf")
        self.sessions.close(request.cookies.get(SESSION, ""))
        answer = Response(status=303, headers={"Location": "/"})
        _set(answer, SESSION, "", 0)
        return answer


def inside(to: str) -> str:
    """A page of ours to go to afterwards; whatever could lead elsewhere is the first page."""
    good = to.startswith("/") and not to.startswith(("//", "/\\")) and len(to) <= _MAX_TO and to.isascii()
    return to if good and to.isprintable() and " " not in to and "\\" not in to else "/"


def _set(answer: Response, name: str, value: str, seconds: int) -> None:
    answer.set_cookie(name, value, max_age=seconds, path="/", secure=True, httponly=True, samesite="Lax")
