"""A provider's keys, found by discovery and kept for a while.

Asked over TLS that is always verified: first ``/.well-known/openid-configuration`` under the issuer (OpenID Connect
Discovery 1.0), which must name the same issuer, then the set it points to. Redirects are not followed.

Keys are asked for again after FRESH_SECONDS, and at once when a token names one that is not known: that is how a
rotation is noticed. Neither happens more often than once in PAUSE_SECONDS, so that nobody can make this service ask by
showing made-up names. While the provider does not answer, what it said last counts for LAST_SECONDS; after that nobody
is let in.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from attest.collateral.errors import CollateralUnavailable
from attest.collateral.limits import Timeouts, Tls
from attest.collateral.transport import get
from attest.settings_oidc import OidcSettings
from attest.web.oidc.errors import ProviderUnavailable
from attest.web.oidc.keys import MAX_SET, ProviderKey, parse_key_set, provider_json

FRESH_SECONDS = 900.0
LAST_SECONDS = 12 * 3600.0
PAUSE_SECONDS = 30.0
MAX_DISCOVERY = 64 * 1024
ANSWER_SECONDS = 5.0
"""For one of the two answers: less than a worker's time for a request."""

Seconds = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where people log in and where codes are changed for tokens; ``names_issuer``: answers to browsers name it (RFC
    9207); ``basic``: a client's secret goes into a header, not the form.
    """

    authorization: str
    token: str
    names_issuer: bool
    basic: bool


@dataclass
class Provider:
    """The keys of ``settings.issuer``, for any number of threads of one process: one asks, the others wait for it."""

    settings: OidcSettings
    clock: Seconds = time.monotonic
    _keys: dict[str, ProviderKey] = field(default_factory=dict)
    _endpoints: Endpoints | None = None
    _got: float | None = None
    _tried: float | None = None
    _failure: str | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def key(self, kid: str) -> ProviderKey | None:
        """A key by its name, ``None`` for one the provider does not have. Raises ProviderUnavailable."""
        with self._lock:
            return self._key(kid, self.clock())

    def endpoints(self) -> Endpoints:
        """Where people log in. Raises ProviderUnavailable, also where the provider names no such places."""
        with self._lock:
            now = self.clock()
            if self._got is None or now - self._got >= FRESH_SECONDS:
                self._ask(now)
            if self._got is None or now - self._got >= LAST_SECONDS:
                raise ProviderUnavailable(f"oidc: {self._failure or 'the provider was not asked yet'}")
            if self._endpoints is None:
                raise ProviderUnavailable("oidc: discovery: want https URLs as authorization_ and token_endpoint")
            return self._endpoints

    def _key(self, kid: str, now: float) -> ProviderKey | None:
        if self._got is None or now - self._got >= FRESH_SECONDS or kid not in self._keys:
            self._ask(now)
        if self._got is None or now - self._got >= LAST_SECONDS or (self._failure and kid not in self._keys):
            raise ProviderUnavailable(f"oidc: {self._failure or 'the provider was not asked yet'}")
        return self._keys.get(kid)

    def _ask(self, now: float) -> None:
        if self._tried is not None and now - self._tried < PAUSE_SECONDS:
            return
        self._tried = now
        try:
            self._keys, self._endpoints = self._fetch()
        except (ProviderUnavailable, CollateralUnavailable) as exc:
            self._failure = exc.message
        else:
            self._got, self._failure = now, None

    def _fetch(self) -> tuple[dict[str, ProviderKey], Endpoints | None]:
        issuer = self.settings.issuer
        place = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        found = provider_json(self._get(place, MAX_DISCOVERY), "oidc: discovery", MAX_DISCOVERY)
        if not isinstance(found, dict) or found.get("issuer") != issuer:
            raise ProviderUnavailable(f"oidc: discovery: it is not that of the issuer {issuer!r}")
        keys = found.get("jwks_uri")
        if not isinstance(keys, str) or not _is_https(keys):
            raise ProviderUnavailable("oidc: discovery: jwks_uri: want an https URL")
        return parse_key_set(self._get(keys, MAX_SET)), _endpoints(found)

    def _get(self, url: str, max_body: int) -> bytes:
        timeouts, tls = Timeouts(ANSWER_SECONDS, ANSWER_SECONDS), Tls(ca=self.settings.ca)
        answer = get(url, max_body=max_body, timeouts=timeouts, seconds=ANSWER_SECONDS, tls=tls)
        if answer.status != 200:
            raise ProviderUnavailable(f"oidc: {urlsplit(url).netloc} answered {answer.status}")
        return answer.body


def _endpoints(found: dict[str, Any]) -> Endpoints | None:
    """As discovery says; ``None`` where nobody can log in there."""
    login, token = found.get("authorization_endpoint"), found.get("token_endpoint")
    if not isinstance(login, str) or not isinstance(token, str) or not _is_https(login) or not _is_https(token):
        return None
    methods = found.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])  # its default by the standard
    return Endpoints(
        login,
        token,
        names_issuer=found.get("authorization_response_iss_parameter_supported") is True,
        basic=not isinstance(methods, list) or "client_secret_basic" in methods,
    )


def _is_https(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc and url.isprintable()
