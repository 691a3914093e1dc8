"""Is this bearer token one that the provider signed for us, and does it count now?

1. It has at most MAX_TOKEN characters and three parts; header and payload are strict JSON objects.
2. The header names an algorithm of the settings and a key by ``kid``. It brings no key and no place to fetch one from
   (``jwk``, ``jku``, ``x5c``, ``x5u``), asks for no extension (``crit``, ``zip``), and is not of another kind of token.
3. The provider's own set has that key, and the key is for that algorithm.
4. The signature over the bytes as received is the key's.
5. ``iss`` and ``aud`` are ours. Where it has several audiences, ``azp`` says who asked for it, and that is who may ask.
6. ``iat``, ``exp`` and ``nbf`` fit the time, and it was not made to last longer than MAX_LIFETIME.
7. It is not bound to a key that the request would have to prove (``cnf``): a bearer proves nothing.

Sources: RFC 7519, RFC 8725 (JWT best current practices), RFC 9068, OpenID Connect Core 1.0 section 3.1.3.7.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import jwt

from attest.settings_oidc import OidcSettings
from attest.web.oidc.errors import BearerMalformed, BearerRefused
from attest.web.oidc.keys import ProviderKey, PublicKey
from policy.strictjson import strict_json

MAX_TOKEN = 8000
MAX_LIFETIME = timedelta(hours=24)
KINDS = ("jwt", "at+jwt", "application/jwt", "application/at+jwt")
_FOREIGN = ("jwk", "jku", "x5c", "x5u", "crit", "zip", "b64", "enc", "epk")

KeyOf = Callable[[str], ProviderKey | None]
"""A key of the provider by its name. Raises ProviderUnavailable."""


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token that counts: who it is about, and everything it says."""

    issuer: str
    subject: str
    claims: dict[str, Any]


def verify(text: str, settings: OidcSettings, key_of: KeyOf, now: datetime) -> Bearer:
    """Raises BearerRefused; ProviderUnavailable when the provider's keys are not at hand."""
    header, payload = parts(text)  # (1)
    algorithm, kid = check_header(header, settings.algorithms), _key_name(header)  # (2)
    key = key_of(kid)  # (3)
    if key is None:
        raise BearerRefused(f"bearer: the provider has no key {kid[:60]!r}", code="bearer.unknown-key")
    if algorithm not in key.algorithms:
        raise BearerRefused(f"bearer: alg {algorithm}, but the key is for {' or '.join(key.algorithms)}")
    check_signature(text, key.key, algorithm)  # (4)
    _ours(payload, settings)  # (5)
    check_times(payload, settings.leeway, now)  # (6)
    if "cnf" in payload:  # (7)
        raise BearerRefused("bearer: it is bound to a key (cnf), which is not checked here")
    return Bearer(settings.issuer, _string(payload, "sub"), payload)


def parts(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and payload, of which nothing is checked yet. Raises BearerMalformed."""
    if len(text) > MAX_TOKEN:
        raise BearerMalformed(f"bearer: {len(text)} characters, want at most {MAX_TOKEN}")
    pieces = text.split(".")
    if len(pieces) != 3:
        raise BearerMalformed(f"bearer: {len(pieces)} parts, want a signed JWT: header.payload.signature")
    return _object(pieces[0], "bearer: header"), _object(pieces[1], "bearer: payload")


def _object(part: str, what: str) -> dict[str, Any]:
    try:
        data = base64.b64decode(part + "=" * (-len(part) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise BearerMalformed(f"{what}: not base64url") from None
    found = strict_json(data, what, max_bytes=MAX_TOKEN, error=BearerMalformed)
    if not isinstance(found, dict):
        raise BearerMalformed(f"{what}: want a JSON object")
    return found


def check_header(header: dict[str, Any], algorithms: Sequence[str]) -> str:
    """The algorithm, one of ``algorithms``. Raises BearerRefused, also for a header that asks for more than that."""
    foreign = [name for name in _FOREIGN if name in header]
    if foreign:
        raise BearerRefused(f"bearer: header {foreign[0]} is not taken: keys are the provider's", code="bearer.header")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in KINDS:
        raise BearerRefused(f"bearer: typ {str(kind)[:40]!r}, want JWT or at+jwt", code="bearer.header")
    algorithm = header.get("alg")
    if algorithm not in algorithms:
        wanted = ", ".join(algorithms)
        raise BearerRefused(f"bearer: alg {str(algorithm)[:40]!r}, want one of {wanted}", code="bearer.header")
    return str(algorithm)


def _key_name(header: dict[str, Any]) -> str:
    kid = header.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= 255:
        raise BearerRefused("bearer: header kid: want the name of a key", code="bearer.header")
    return kid


def check_signature(text: str, key: PublicKey, algorithm: str) -> None:
    """Over the bytes as received. Raises BearerRefused."""
    try:
        jwt.PyJWS().decode_complete(text, key, algorithms=[algorithm])
    except jwt.InvalidTokenError as exc:
        raise BearerRefused(f"bearer: {exc}", code="bearer.signature") from None


def _ours(payload: dict[str, Any], settings: OidcSettings) -> None:
    issuer, audience = payload.get("iss"), payload.get("aud")
    if issuer != settings.issuer:
        raise BearerRefused(f"bearer: iss {str(issuer)[:80]!r}, want {settings.issuer!r}", code="bearer.issuer")
    named = [audience] if isinstance(audience, str) else audience
    if not isinstance(named, list) or settings.audience not in named:
        raise BearerRefused(f"bearer: aud {str(audience)[:80]!r}, want {settings.audience!r}", code="bearer.audience")
    wanted = settings.client or (settings.audience if len(named) > 1 else None)
    asked_by = payload.get("azp", payload.get("client_id"))
    if wanted is not None and asked_by != wanted:
        raise BearerRefused(f"bearer: azp {str(asked_by)[:80]!r}, want {wanted!r}", code="bearer.client")


def check_times(payload: dict[str, Any], leeway: timedelta, now: datetime) -> None:
    """``iat``, ``exp``, and ``nbf`` where it is there. Raises BearerRefused."""
    slack, seconds = leeway.total_seconds(), now.timestamp()
    issued, end = _time(payload, "iat"), _time(payload, "exp")
    start = _time(payload, "nbf") if "nbf" in payload else issued
    if end - issued > MAX_LIFETIME.total_seconds():
        hours = MAX_LIFETIME // timedelta(hours=1)
        raise BearerRefused(f"bearer: made for more than {hours} hours", code="bearer.lifetime")
    if seconds >= end + slack:
        raise BearerRefused("bearer: expired", code="bearer.expired")
    if seconds < max(issued, start) - slack:
        raise BearerRefused("bearer: not valid yet", code="bearer.early")


def _time(payload: dict[str, Any], name: str) -> float:
    value = payload.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BearerRefused(f"bearer: {name}: want a number of seconds", code="bearer.claims")
    return value


def _string(payload: dict[str, Any], name: str) -> str:
    value = payload.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 255:
        raise BearerRefused(f"bearer: {name}: want 1 to 255 characters", code="bearer.claims")
    return value
