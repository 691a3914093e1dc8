"""A client of OpenBao's and HashiCorp Vault's HTTP API, as far as keys and secrets need it.

* TLS 1.2 or later with the one authority of the settings; never plain HTTP, no redirects.
* All of a call, logging in and trying again included, takes at most ``CALL_SECONDS``.
* Tried again: no connection, 429 and 5xx, twice with a pause; every request made here is safe to repeat, except logging
  in, which may use up a SecretID. Never again within a call: a sealed server.
* A token is renewed when half its life is over, or another one fetched. After 403 another one is fetched once: the old
  one may have been revoked, or its file replaced.
* What goes wrong is :class:`VaultUnavailable`, whoever is at fault there: nothing is released, and no guest is judged.
  Messages hold the server's address, path and reason, never a token or what was sent.

Source: the API documentation of OpenBao ("HTTP API", "Token auth method", "AppRole", "TLS certificates").
"""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from attest.keys.errors import KeyFileRefused, KeyUnavailable
from attest.keys.files import read_private
from attest.keys.vault_settings import APPROLE, CERT, TOKEN, VaultSettings

CALL_SECONDS = 8.0
REQUEST_SECONDS = 4.0
PAUSES = (0.1, 0.4)
MAX_ANSWER = 4 << 20
_SEALED, _STANDBY = 503, (307, 472, 473)


class VaultUnavailable(KeyUnavailable):
    """The server cannot be used now; ``code`` says how."""

    code = "vault.unavailable"


@dataclass(frozen=True, slots=True)
class VaultAnswer:
    """200, 204, 400 or 404, with the JSON object; anything else was raised."""

    status: int
    body: dict[str, Any]

    @property
    def data(self) -> dict[str, Any]:
        """Its ``data``; empty where there is none."""
        found = self.body.get("data")
        return found if isinstance(found, dict) else {}

    @property
    def reason(self) -> str:
        """What the server says of a 4xx, with nothing in it that could steer a terminal."""
        errors = self.body.get("errors")
        text = "; ".join(str(one) for one in errors) if isinstance(errors, list) else ""
        return "".join(c if c.isprintable() else " " for c in text)[:200]


@dataclass(frozen=True, slots=True)
class _Token:
    """``life`` in seconds from ``since`` (monotonic); 0 is for ever."""

    text: str
    since: float
    life: float
    renewable: bool

    def spent(self, now: float, share: float) -> bool:
        return self.life > 0 and now >= self.since + share * self.life


class Vault:
    """One server. Safe to make before a fork, and to use by several threads."""

    def __init__(
        self,
        settings: VaultSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.settings = settings
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._held: _Token | None = None
        self._tls: ssl.SSLContext | None = None

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> VaultAnswer:
        """One request below ``/v1/``. 400 and 404 are answers; the rest that is no success is VaultUnavailable."""
        deadline = self._clock() + CALL_SECONDS
        token = self._token(deadline)
        answer = self._patiently(method, path, body, token, deadline)
        if answer.status == 403:
            other = self._another(token, deadline)
            answer = self._patiently(method, path, body, other, deadline)
        return self._checked(answer, path)

    def check(self) -> None:
        """That the server is open and takes our token. Raises VaultUnavailable."""
        self.ask("GET", "auth/token/lookup-self")

    def _token(self, deadline: float) -> str:
        with self._lock:
            held, now = self._held, self._clock()
            if held is not None and held.spent(now, 0.5):
                held = self._renewed(held, deadline)
            if held is None:
                held = self._log_in(deadline)
            self._held = held
            return held.text

    def _another(self, refused: str, deadline: float) -> str:
        with self._lock:
            if self._held is None or self._held.text == refused:
                self._held = self._log_in(deadline)
            return self._held.text

    def _renewed(self, held: _Token, deadline: float) -> _Token | None:
        """The token with a new life; as it was where renewing fails for now; ``None`` where another one is needed."""
        if not held.renewable:
            return None if held.spent(self._clock(), 0.9) else held
        try:
            answer = self._send("POST", "auth/token/renew-self", {}, held.text, deadline)
        except VaultUnavailable:
            return None if held.spent(self._clock(), 1.0) else held
        if answer.status != 200:
            return None
        renewed = self._of_login(answer.body.get("auth"))
        # At the end of its longest life a token is renewed for less and less.
        return None if renewed.life < held.life / 4 else renewed

    def _log_in(self, deadline: float) -> _Token:
        auth = self.settings.auth
        if auth.kind == TOKEN:
            return self._from_file(deadline)
        body = {"name": auth.role} if auth.kind == CERT and auth.role else {}
        if auth.kind == APPROLE:
            body = {"role_id": auth.role, "secret_id": self._secret()}
        answer = self._send("POST", f"auth/{auth.mount}/login", body, None, deadline)
        if answer.status in (400, 403):
            raise self._problem("vault.denied", f"logging in by {auth.kind}: {answer.reason or answer.status}")
        return self._of_login(self._checked(answer, f"auth/{auth.mount}/login").body.get("auth"))

    def _from_file(self, deadline: float) -> _Token:
        """The token of the file, and what the server says of its life."""
        text = self._secret()
        answer = self._send("GET", "auth/token/lookup-self", None, text, deadline)
        if answer.status == 403:
            raise self._problem("vault.denied", f"the token in {self.settings.auth.secret_file} is not accepted")
        data = self._checked(answer, "auth/token/lookup-self").data
        return self._held_token(text, data.get("ttl"), data.get("renewable"))

    def _of_login(self, auth: object) -> _Token:
        found = auth if isinstance(auth, dict) else {}
        text = found.get("client_token")
        if not isinstance(text, str) or not text:
            raise self._problem("vault.malformed", "the answer to a login holds no token")
        return self._held_token(text, found.get("lease_duration"), found.get("renewable"))

    def _held_token(self, text: str, life: object, renewable: object) -> _Token:
        seconds = float(life) if isinstance(life, int) and life > 0 else 0.0
        return _Token(text, self._clock(), seconds, renewable is True)

    def _secret(self) -> str:
        file = self.settings.auth.secret_file
        if file is None:
            raise TypeError("this way of logging in has a file")
        text = read_private(file).decode("ascii", "replace").strip()
        if not text or not text.isprintable():
            raise KeyFileRefused(f"vault secret {file}: want one line of text")
        return text

    def _patiently(
        self, method: str, path: str, body: dict[str, Any] | None, token: str, deadline: float
    ) -> VaultAnswer:
        """With a pause and again while the server is away or busy and there is time."""
        for pause in PAUSES:
            try:
                answer = self._send(method, path, body, token, deadline)
            except VaultUnavailable as exc:
                if exc.code != "vault.unreachable" or self._clock() + pause >= deadline:
                    raise
            else:
                away = answer.status == 429 or (answer.status >= 500 and answer.status != _SEALED)
                if not away or self._clock() + pause >= deadline:
                    return answer
            self._sleep(pause)
        return self._send(method, path, body, token, deadline)

    def _send(
        self, method: str, path: str, body: dict[str, Any] | None, token: str | None, deadline: float
    ) -> VaultAnswer:
        left = deadline - self._clock()
        if left <= 0:
            raise self._problem("vault.unreachable", f"no answer within {CALL_SECONDS:g} s")
        settings = self.settings
        headers = {"X-Vault-Request": "true", "Content-Type": "application/json"}
        headers |= {"X-Vault-Token": token} if token else {}
        headers |= {"X-Vault-Namespace": settings.namespace} if settings.namespace else {}
        connection = http.client.HTTPSConnection(
            settings.host, settings.port, context=self._context(), timeout=min(REQUEST_SECONDS, left)
        )
        try:
            connection.request(method, f"/v1/{path}", None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return self._read(answer.status, answer.read(MAX_ANSWER + 1), path)
        except ssl.SSLCertVerificationError as exc:
            raise self._problem("vault.tls", f"its certificate is not accepted: {exc.verify_message}") from None
        except (OSError, http.client.HTTPException) as exc:
            raise self._problem("vault.unreachable", str(exc)[:120] or type(exc).__name__) from None
        finally:
            connection.close()

    def _read(self, status: int, text: bytes, path: str) -> VaultAnswer:
        try:
            found = json.loads(text) if 0 < len(text) <= MAX_ANSWER else None if text else {}
        except ValueError:
            found = None
        if status < 500 and not isinstance(found, dict):
            raise self._problem("vault.malformed", f"{path}: the answer is no JSON object")
        return VaultAnswer(status, found if isinstance(found, dict) else {})

    def _checked(self, answer: VaultAnswer, path: str) -> VaultAnswer:
        if answer.status in (200, 204, 400, 404):
            return answer
        if answer.status == 403:
            raise self._problem("vault.denied", f"{path}: permission denied")
        if answer.status == _SEALED:
            raise self._problem("vault.sealed", answer.reason or "sealed, or not ready")
        if answer.status in _STANDBY:
            raise self._problem("vault.standby", "a standby that passes nothing on: name the active server")
        code = "vault.busy" if answer.status == 429 else "vault.failed"
        raise self._problem(code, f"{path}: HTTP {answer.status} {answer.reason}")

    def _problem(self, code: str, text: str) -> VaultUnavailable:
        return VaultUnavailable(f"vault {self.settings}: {text}", code=code)

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            auth = self.settings.auth
            try:
                context = ssl.create_default_context(cafile=str(self.settings.ca))
                context.minimum_version = ssl.TLSVersion.TLSv1_2
                if auth.certificate is not None and auth.key is not None:
                    context.load_cert_chain(auth.certificate, auth.key)
            except (OSError, ssl.SSLError) as exc:
                raise self._problem("vault.tls", f"its authority or our certificate cannot be read: {exc}") from None
            self._tls = context
        return self._tls
