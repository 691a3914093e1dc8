"""Attestation results: EAR tokens, signed with ES256 or ES384, in one of two dialects of the same content.

``trustee``: as Trustee writes it (dotted names, ``submods.cpu0``), which its relying parties read. ``ear``: the names
of draft-ietf-rats-ear as of March 2026 (underscores, a list of policies) with ``eat_nonce`` (RFC 9711). Both have
``jti``, ``nbf``, ``aud`` and a ``kid`` that Trustee lacks. The dialects are never mixed in one token.

Raw evidence stays out of it: tokens travel in headers. The header carries no key; a verifier that believed one would
believe anybody (RFC 8725 section 3.10). Verification here takes the key by its name from our own set and only the
algorithm of that key, one issuer, one audience.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import jwt

from attest.broker.errors import TokenRefused
from attest.broker.trustee_names import trustee_names
from attest.keys.ring import KeyRing
from attest.keys.signing import SigningKey
from policy.claims import TcbClaims, TeeClaims
from policy.decide import Decision
from policy.tdx import TcbStatus

PROFILE = "tag:github.com,2024:confidential-containers/Trustee"
EAR_PROFILE = "tag:ietf.org,2026:rats/ear#03"
TRUSTEE, EAR = "trustee", "ear"
DIALECTS = (TRUSTEE, EAR)
_DEVELOPER = "cvm"
_GENUINE, _KNOWN_FLAWS, _AFFIRMING = 2, 32, range(-32, 32)  # AR4SI, the claim "hardware" and the tier of all
WARNING = "warning"
_REQUIRED = ["exp", "iat", "nbf", "jti", "aud", "iss"]
MAX_TOKEN = 16 * 1024


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """Who issues tokens, for whom, and for how long."""

    issuer: str
    audience: str
    lifetime: timedelta
    build: str = "attest"
    dialect: str = TRUSTEE


@dataclass(frozen=True, slots=True)
class Subject:
    """What a token says beside the decision: the claims, also as JSON values, and what the guest bound into its report.

    ``init_data`` is the claim that binds init-data (HOST_DATA or MRCONFIGID), hexadecimal.
    """

    tee: str
    nonce: str
    tee_pubkey: dict[str, str]
    verified: TeeClaims
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
        "iss": settings.issuer,
        "aud": settings.audience,
        "iat": issued,
        "nbf": issued,
        "exp": end,
        "jti": token_id,
        "cvm.emulated": decision.emulated,
        **_DIALECT[settings.dialect](settings, subject, decision),
    }
    text = jwt.encode(payload, key.private, algorithm=key.algorithm, headers={"kid": key.kid, "typ": "JWT"})
    return Issued(text, token_id, datetime.fromtimestamp(end, tz=now.tzinfo))


def token_id_of(keys: KeyRing, settings: TokenSettings, text: str, *, now: datetime) -> str:
    """Verify one of our tokens at ``now`` and return its ``jti``. Raises TokenRefused."""
    payload = verified_payload(keys, settings, text)
    start, end, token_id = payload["nbf"], payload["exp"], payload["jti"]
    if type(start) is not int or type(end) is not int or not isinstance(token_id, str):
        raise TokenRefused("token: nbf, exp or jti is of the wrong type")
    if not start <= now.timestamp() < end:
        raise TokenRefused("token: expired or not valid yet", code="token.expired")
    return token_id


def verified_payload(keys: KeyRing, settings: TokenSettings, text: str) -> dict[str, Any]:
    """The payload of a token that one of our keys signed, its times not yet compared. Raises TokenRefused."""
    if len(text) > MAX_TOKEN:
        raise TokenRefused(f"token: {len(text)} characters, want at most {MAX_TOKEN}")
    try:
        kid = jwt.get_unverified_header(text).get("kid")
        key = keys.find(kid) if isinstance(kid, str) else None
        if key is None:
            raise TokenRefused("token: not one of this service: its key is not known here", code="token.unknown-key")
        found: dict[str, Any] = jwt.decode(
            text,
            key.private.public_key(),
            algorithms=[key.algorithm],
            audience=settings.audience,
            issuer=settings.issuer,
            # The library would read the clock itself; the times are compared with the one given.
            options={"require": _REQUIRED, "verify_exp": False, "verify_nbf": False, "verify_iat": False},
        )
    except jwt.InvalidTokenError as exc:
        raise TokenRefused(f"token: not one of this service: {exc}") from None
    return found


def _trustee(settings: TokenSettings, subject: Subject, decision: Decision) -> dict[str, object]:
    status, vector = _stated(subject, decision)
    module = {
        "ear.status": status,
        "ear.trustworthiness-vector": vector,
        "ear.appraisal-policy-id": subject.policy_id,
        "ear.veraison.annotated-evidence": _evidence(subject, trustee_names(subject.verified)),
    }
    return {
        "eat_profile": PROFILE,
        "ear.verifier-id": {"developer": _DEVELOPER, "build": settings.build},
        "submods": {"cpu0": module},
    }


def _ear(settings: TokenSettings, subject: Subject, decision: Decision) -> dict[str, object]:
    status, vector = _stated(subject, decision)
    module = {
        "ear_status": status,
        "ear_trustworthiness_vector": vector,
        "ear_appraisal_policy_ids": [subject.policy_id],
        "ear_veraison_annotated_evidence": _evidence(subject, {}),
    }
    return {
        "eat_profile": EAR_PROFILE,
        "eat_nonce": subject.nonce,
        "ear_verifier_id": {"developer": _DEVELOPER, "build": settings.build},
        "submods": {"cpu0": module},
    }


def _stated(subject: Subject, decision: Decision) -> tuple[str, dict[str, int]]:
    """Status and vector of an accepted guest, as others are told. What a policy of ours puts up with, a status of
    Intel's other than UpToDate above all, is a warning to who has another policy; no status is better than the worst
    claim (draft-ietf-rats-ear, section 3.3).
    """
    vector, tcb = dict(decision.trust_vector), getattr(subject.verified, "tcb", None)
    if isinstance(tcb, TcbClaims) and tcb.status is not TcbStatus.UP_TO_DATE and vector["hardware"] == _GENUINE:
        vector["hardware"] = _KNOWN_FLAWS
    warned = any(value not in _AFFIRMING for value in vector.values())
    return WARNING if warned and decision.affirming else decision.verdict, vector


def _evidence(subject: Subject, more: dict[str, object]) -> dict[str, object]:
    """``more`` are further names for the claims, which count where two differ."""
    return {
        "report_data": subject.claims.get("report_data"),
        "init_data": subject.init_data,
        "runtime_data_claims": {"nonce": subject.nonce, "tee-pubkey": subject.tee_pubkey},
        subject.tee: subject.claims | more,
    }


_DIALECT: dict[str, Callable[[TokenSettings, Subject, Decision], dict[str, object]]] = {TRUSTEE: _trustee, EAR: _ear}
