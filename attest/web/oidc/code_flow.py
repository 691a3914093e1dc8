"""Logging in with a browser: OpenID Connect's authorization code flow with PKCE, at the one provider of the settings.

A login begins here with a state, a nonce and a verifier of its own, which travel sealed in the browser's cookie; the
provider sends the browser back with a code. Then, in this order, and each a refusal by itself:

1. The cookie is one that this process sealed, not longer ago than PENDING.
2. ``state`` is that of the cookie, and no login ended with it before.
3. ``iss`` names our provider where it is there, and is there where the provider says that it sends it (RFC 9207): an
   answer of another provider is not taken to ours.
4. The provider did not answer with an error.
5. The code is changed for a token at the provider's own endpoint, over TLS that is verified, with the verifier and the
   exact address of return.
6. The ID token is verified as any token of the provider is (``token.py``): signature, issuer, our client as audience,
   time; it is of the kind JWT, ``azp`` is our client where it is there.
7. ``nonce`` is that of the cookie.
8. Its claims make an operator or auditor of somebody, by the same settings as those of bearer tokens.

Nothing of the provider's tokens is kept or shown. Sources: OpenID Connect Core 1.0 section 3.1, RFC 6749, RFC 7636, RFC
9207, RFC 9700 (best current practice).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from attest.audit.record import Actor
from attest.collateral.errors import CollateralUnavailable
from attest.collateral.limits import Timeouts, Tls
from attest.collateral.transport import post
from attest.errors import AttestError, Kind
from attest.settings_dashboard import LoginSettings
from attest.settings_oidc import OidcSettings
from attest.web.oidc.caller import Bearers
from attest.web.oidc.errors import BearerRefused, ProviderUnavailable
from attest.web.oidc.keys import provider_json
from attest.web.oidc.provider import Endpoints, Provider
from attest.web.oidc.token import parts

PENDING = timedelta(minutes=5)
EXCHANGES_PER_MINUTE = 60
"""Strangers can begin logins; they must not make this process ask the provider without end."""
CALLBACK = "/login/callback"
ANSWER_SECONDS = 5.0
MAX_ANSWER = 64 * 1024
_MAX_CODE = 2048
_SEAL = b"attest.login/1"


class LoginRefused(AttestError):
    """A login that did not end with somebody we know. The message says why, and nothing of a token."""

    code = "login.refused"
    kind: Kind = "guest"


@dataclass(frozen=True, slots=True)
class Pending:
    """A login that began: what must come back, what must not leave, where to go afterwards, until when (Unix time)."""

    state: str
    nonce: str
    verifier: str
    to: str
    until: float


@dataclass
class CodeFlow:
    """Logins of one process, for any number of threads. ``secret``: of a client that has one."""

    settings: OidcSettings
    login: LoginSettings
    provider: Provider
    secret: str | None = None
    _sealing: AESGCM = field(default_factory=lambda: AESGCM(os.urandom(32)), repr=False)
    _used: dict[str, float] = field(default_factory=dict, repr=False)
    _asked: deque[float] = field(default_factory=deque, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def back(self) -> str:
        """The address of return, exactly as it is registered with the provider."""
        return self.login.origin + CALLBACK

    def begin(self, to: str, now: datetime) -> tuple[str, str]:
        """(Where the browser goes, the sealed login for its cookie). Raises ProviderUnavailable."""
        endpoints = self.provider.endpoints()
        pending = Pending(_word(), _word(), _word(), to, (now + PENDING).timestamp())
        asked = {
            "response_type": "code",
            "client_id": self.login.client,
            "redirect_uri": self.back,
            "scope": self.login.scope,
            "state": pending.state,
            "nonce": pending.nonce,
            "code_challenge": _base64(hashlib.sha256(pending.verifier.encode()).digest()),
            "code_challenge_method": "S256",
        }
        joint = "&" if "?" in endpoints.authorization else "?"
        return f"{endpoints.authorization}{joint}{urlencode(asked)}", self._seal(pending)

    def finish(self, query: Mapping[str, str], sealed: str, now: datetime) -> tuple[Actor, str]:
        """Who logged in, and where they wanted to go. Raises LoginRefused, BearerRefused, ProviderUnavailable."""
        pending = self._open(sealed, now)  # (1)
        self._use(pending, query.get("state", ""), now)  # (2)
        endpoints = self.provider.endpoints()
        self._same_provider(query.get("iss"), endpoints)  # (3)
        code = _code(query)  # (4)
        token = self._exchange(code, pending, endpoints)  # (5)
        return self._person(token, pending, now), pending.to

    def _person(self, token: str, pending: Pending, now: datetime) -> Actor:
        ours = replace(self.settings, audience=self.login.client, client=None)
        actor = Bearers(ours, self.provider.key).actor(token, now)  # (6)
        header, claims = parts(token)
        if str(header.get("typ", "JWT")).upper() != "JWT":
            raise LoginRefused("login: the provider's answer holds another kind of token than an ID token")
        if claims.get("azp", self.login.client) != self.login.client:
            raise LoginRefused("login: the ID token was made for another client (azp)")
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), pending.nonce.encode()):  # (7)
            raise LoginRefused("login: the ID token is not of this login (nonce)", code="login.nonce")
        if actor is None:  # (8)
            raise LoginRefused("login: neither an operator nor an auditor", code="login.role")
        return actor

    def _seal(self, pending: Pending) -> str:
        nonce = os.urandom(12)
        return _base64(nonce + self._sealing.encrypt(nonce, json.dumps(asdict(pending)).encode(), _SEAL))

    def _open(self, sealed: str, now: datetime) -> Pending:
        try:
            data = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
            pending = Pending(**json.loads(self._sealing.decrypt(data[:12], data[12:], _SEAL)))
        except (ValueError, InvalidTag):
            raise LoginRefused("login: this browser began none here, or too long ago: begin again") from None
        if now.timestamp() >= pending.until:
            raise LoginRefused("login: it took too long: begin again", code="login.late")
        return pending

    def _use(self, pending: Pending, state: str, now: datetime) -> None:
        """Each login ends once, however it ends."""
        if not hmac.compare_digest(state.encode(), pending.state.encode()):
            raise LoginRefused("login: the answer is not to this browser's login (state)", code="login.state")
        with self._lock:
            seconds = now.timestamp()
            self._used = {known: until for known, until in self._used.items() if until > seconds}
            if state in self._used:
                raise LoginRefused("login: it has ended already: begin again", code="login.used")
            self._used[state] = pending.until

    def _same_provider(self, issuer: str | None, endpoints: Endpoints) -> None:
        if issuer is None and not endpoints.names_issuer:
            return
        if issuer != self.settings.issuer:
            got = "nobody" if issuer is None else issuer[:80]
            raise LoginRefused(f"login: the answer is from {got!r}, want {self.settings.issuer!r}", code="login.issuer")

    def _exchange(self, code: str, pending: Pending, endpoints: Endpoints) -> str:
        """The ID token that a code is changed for."""
        self._pace()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.back,
            "client_id": self.login.client,
            "code_verifier": pending.verifier,
        }
        headers = {}
        if self.secret is not None and endpoints.basic:
            headers["Authorization"] = _basic(self.login.client, self.secret)
        elif self.secret is not None:
            form["client_secret"] = self.secret
        timeouts, tls = Timeouts(ANSWER_SECONDS, ANSWER_SECONDS), Tls(ca=self.settings.ca)
        try:
            answer = post(
                endpoints.token, form, headers, max_body=MAX_ANSWER, timeouts=timeouts, seconds=ANSWER_SECONDS, tls=tls
            )
        except CollateralUnavailable as exc:
            raise ProviderUnavailable(f"oidc: token endpoint: {exc.message}") from None
        if 400 <= answer.status < 500:
            raise LoginRefused(f"login: the provider does not take the code ({answer.status})", code="login.code")
        if answer.status != 200:
            raise ProviderUnavailable(f"oidc: token endpoint answered {answer.status}")
        return _id_token(provider_json(answer.body, "oidc: token answer", MAX_ANSWER))

    def _pace(self) -> None:
        with self._lock:
            now = time.monotonic()
            while self._asked and now - self._asked[0] > 60:
                self._asked.popleft()
            if len(self._asked) >= EXCHANGES_PER_MINUTE:
                raise ProviderUnavailable("oidc: too many logins in this minute")
            self._asked.append(now)


def _basic(client: str, secret: str) -> str:
    """Both as a form would hold them (RFC 6749, section 2.3.1)."""
    words = f"{quote(client, safe='')}:{quote(secret, safe='')}"
    return f"Basic {base64.b64encode(words.encode()).decode()}"


def _code(query: Mapping[str, str]) -> str:
    if "error" in query:
        said = "".join(char for char in query["error"][:60] if char.isalnum() or char in "_-.")
        raise LoginRefused(f"login: the provider answered {said or 'with an error'}", code="login.provider")
    code = query.get("code", "")
    if not 0 < len(code) <= _MAX_CODE or not code.isprintable():
        raise LoginRefused("login: the answer holds no code", code="login.code")
    return code


def _id_token(found: Any) -> str:
    token = found.get("id_token") if isinstance(found, dict) else None
    if not isinstance(token, str):
        raise BearerRefused("login: the provider's answer holds no ID token", code="login.token")
    return token


def _word() -> str:
    """256 bits that nobody guesses, fit for an address."""
    return _base64(os.urandom(32))


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
