"""Attestation results: EAR tokens in the dialect Trustee's clients and relying parties read, signed with ES256.

Payload as Trustee writes it (dotted names, ``submods.cpu0``), with ``jti``, ``nbf``, ``aud`` and a ``kid`` that
Trustee lacks. Raw evidence stays out of it: tokens travel in headers. The header carries no key; a verifier that
believed one would believe anybody (RFC 8725 section 3.10). Verification here accepts one algorithm, one key set, one
issuer, one audience.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import jwt

from attest.broker.errors import TokenRefused
from attest.keys.signing import SigningKey
from policy.decide import Decision

PROFILE = "tag:github.com,2024:confidential-containers/Trustee"
_ALGORITHM = "ES256"
_REQUIRED = ["exp", "iat", "nbf", "jti", "aud", "iss"]
MAX_TOKEN = 16 * 1024


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """Who issues tokens, for whom, and for how long."""

    issuer: str
    audience: str
    lifetime: timedelta
    build: str = "attest"


@dataclass(frozen=True, slots=True)
class Subject:
    """What a token says beside the decision: the claims as JSON values and what the guest bound into its report.

    ``init_data`` is the claim that binds init-data (HOST_DATA or MRCONFIGID), hexadecimal.
    """

    tee: str
    nonce: str
    tee_pubkey: dict[str, str]
    claims: dict[str, object]
    init_data: str
    policy_id: str


@dataclass(frozen=True, slots=True)
class Issued:
    """A signed token with its id and end."""

    text: str
    token_id: str
    expires: datetime


def issue(
    key: SigningKey, settings: TokenSettings, subject: Subject, decision: Decision, *, token_id: str, now: datetime
) -> Issued:
    """Sign the attestation result of ``decision``. Times are whole seconds; ``exp`` is ``lifetime`` after ``now``."""
    issued = int(now.timestamp())
    end = issued + int(settings.lifetime.total_seconds())
    payload = {
        "eat_profile": PROFILE,
        "iss": settings.issuer,
        "aud": settings.audience,
        "iat": issued,
        "nbf": issued,
        "exp": end,
        "jti": token_id,
        "ear.verifier-id": {"developer": "cvm", "build": settings.build},
        "cvm.emulated": decision.emulated,
        "submods": {"cpu0": _submodule(subject, decision)},
    }
    text = jwt.encode(payload, key.private, algorithm=_ALGORITHM, headers={"kid": key.kid, "typ": "JWT"})
    return Issued(text, token_id, datetime.fromtimestamp(end, tz=now.tzinfo))


def token_id_of(key: SigningKey, settings: TokenSettings, text: str, *, now: datetime) -> str:
    """Verify one of our tokens at ``now`` and return its ``jti``. Raises TokenRefused."""
    if len(text) > MAX_TOKEN:
        raise TokenRefused(f"token: {len(text)} characters, want at most {MAX_TOKEN}")
    try:
        payload = jwt.decode(
            text,
            key.private.public_key(),
            algorithms=[_ALGORITHM],
            audience=settings.audience,
            issuer=settings.issuer,
            # The library would read the clock itself; the times are compared below with the one given.
            options={"require": _REQUIRED, "verify_exp": False, "verify_nbf": False, "verify_iat": False},
        )
    except jwt.InvalidTokenError as exc:
        raise TokenRefused(f"token: not one of this service: {exc}") from None
    start, end, token_id = payload["nbf"], payload["exp"], payload["jti"]
    if type(start) is not int or type(end) is not int or not isinstance(token_id, str):
        raise TokenRefused("token: nbf, exp or jti is of the wrong type")
    if not start <= now.timestamp() < end:
        raise TokenRefused("token: expired or not valid yet", code="token.expired")
    return token_id


def _submodule(subject: Subject, decision: Decision) -> dict[str, object]:
    evidence = {
        "report_data": subject.claims.get("report_data"),
        "init_data": subject.init_data,
        "runtime_data_claims": {"nonce": subject.nonce, "tee-pubkey": subject.tee_pubkey},
        subject.tee: subject.claims,
    }
    return {
        "ear.status": decision.verdict,
        "ear.trustworthiness-vector": dict(decision.trust_vector),
        "ear.appraisal-policy-id": subject.policy_id,
        "ear.veraison.annotated-evidence": evidence,
    }
