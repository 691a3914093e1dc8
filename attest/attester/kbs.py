"""The Confidential Containers KBS protocol 0.4.0, client side: one method per request.

    POST /kbs/v0/auth      -> challenge (nonce), session cookie
    POST /kbs/v0/attest    -> token
    GET  /kbs/v0/resource/<repository>/<type>/<tag> -> JWE for this guest's key
    POST /cvm/v0/disk-report/<repository>/<type>/<tag>  which header a disk has (`attest.attester.rotation`), not KBS

Source: confidential-containers/trustee ``kbs/docs/kbs_attestation_protocol.md`` and the client crate ``kbs_protocol``.
How failures are told apart: 403, or 401 that names the policy, is the service's judgement (:class:`Refused`); another
401 is a lost session; 404 is an unknown resource; 429 and 5xx may pass.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode
from typing import NamedTuple

from attest.attester.errors import Refused, SecretNotFound, ServiceMalformed, ServiceUnavailable, SessionLost
from attest.attester.https import Answer, Transport
from policy.strictjson import strict_json
from policy.vocab import ResourcePath

VERSION = "0.4.0"
PREFIX = "/kbs/v0"
DISK_REPORT = "/cvm/v0/disk-report"
HASHES = ("sha256", "sha384", "sha512")
MAX_REASONS = 32
MAX_REASON = 400
_NONCE = re.compile(r"[A-Za-z0-9+/]{43}=")
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]*")


class Challenge(NamedTuple):
    """The service's nonce as text (base64 of 32 bytes, hashed as received) and the hash to bind it with."""

    nonce: str
    algorithm: str


class KbsClient:
    """One session with the service. Holds the cookie, no key. ``init_data``: the text this launch is bound to."""

    def __init__(self, transport: Transport, init_data: str | None = None) -> None:
        self._transport = transport
        self._init_data = None if init_data is None else {"format": "toml", "body": init_data}
        self._cookie: str | None = None

    def challenge(self, tee: str) -> Challenge:
        """Begin a session for a TEE of kind ``tee``."""
        self._cookie = None
        request: dict[str, object] = {
            "version": VERSION,
            "tee": tee,
            "extra-params": {"supported-hash-algorithms": list(HASHES)},
        }
        answer = self._post("/auth", request)
        if answer.cookie is None:
            raise ServiceMalformed("auth: the answer sets no cookie kbs-session-id")
        self._cookie = answer.cookie
        body = _object(answer, "auth")
        nonce = body.get("nonce")
        if not isinstance(nonce, str) or not _NONCE.fullmatch(nonce):
            raise ServiceMalformed(f"auth: nonce {str(nonce)[:60]!r}, want base64 of 32 bytes")
        return Challenge(nonce, _algorithm(body.get("extra-params")))

    def attest(self, challenge: Challenge, tee_pubkey: dict[str, str], evidence: dict[str, object]) -> str:
        """Present ``evidence`` bound to challenge and key; the attestation token."""
        request: dict[str, object] = {
            "init-data": self._init_data,
            "runtime-data": {"nonce": challenge.nonce, "tee-pubkey": tee_pubkey},
            "tee-evidence": {"primary_evidence": evidence, "additional_evidence": ""},
        }
        token = _object(self._post("/attest", request), "attest").get("token")
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise ServiceMalformed("attest: the answer holds no JWT in 'token'")
        return token

    def resource(self, path: ResourcePath, *, disk: bool = False) -> dict[str, object]:
        """The wrapped secret: a parsed JWE object, unchecked. ``disk`` asks for ``cvm-disk`` beside its members."""
        query = "?cvm-disk=1" if disk else ""
        return _object(self._send("GET", f"/resource/{path}{query}", None), f"resource {path}")

    def report_header(self, path: ResourcePath, version: int, digest: str, step: str) -> None:
        """Ours beside the protocol: which header the disk of that key will have, has, or has alone."""
        body = json.dumps({"version": version, "header": digest, "step": step}).encode()
        answer = self._transport.send("POST", f"{DISK_REPORT}/{path}", body, self._cookie)
        if answer.status != 200:
            raise _failure(answer, "disk-report")

    def _post(self, path: str, request: dict[str, object]) -> Answer:
        return self._send("POST", path, json.dumps(request, separators=(",", ":")).encode())

    def _send(self, method: str, path: str, body: bytes | None) -> Answer:
        answer = self._transport.send(method, PREFIX + path, body, self._cookie)
        if answer.status != 200:
            raise _failure(answer, path.strip("/").split("/")[0])
        return answer


def token_status(token: str) -> str:
    """What the token says about the guest (EAR ``ear.status``), for display only; ``unknown`` when it does not say."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        return "unknown"
    try:
        claims = strict_json(urlsafe_b64decode(match[1] + "=" * (-len(match[1]) % 4)), "token", error=ServiceMalformed)
        status = claims["submods"]["cpu0"]["ear.status"]
    except (ValueError, LookupError, TypeError, ServiceMalformed):
        return "unknown"
    return status if isinstance(status, str) and re.fullmatch(r"[a-z]{1,20}", status) else "unknown"


def token_lifetime(token: str) -> int:
    """Seconds from ``iat`` to ``exp``, at most a day; 0 for a token that does not say. The clock is not asked."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        return 0
    try:
        claims = strict_json(urlsafe_b64decode(match[1] + "=" * (-len(match[1]) % 4)), "token", error=ServiceMalformed)
        life = claims["exp"] - claims["iat"]
    except (ValueError, LookupError, TypeError, ServiceMalformed):
        return 0
    return min(life, 86400) if isinstance(life, int) and life > 0 else 0


def token_end(token: str) -> float:
    """When the token says it ends (``exp``), seconds since 1970; 0 when it does not say. Not verified: it is ours."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        return 0.0
    try:
        claims = strict_json(urlsafe_b64decode(match[1] + "=" * (-len(match[1]) % 4)), "token", error=ServiceMalformed)
    except (ValueError, ServiceMalformed):
        return 0.0
    end = claims.get("exp") if isinstance(claims, dict) else None
    return float(end) if type(end) is int else 0.0


def _algorithm(extra: object) -> str:
    selected = extra.get("selected-hash-algorithm", "sha384") if isinstance(extra, dict) else "sha384"
    name = selected.lower() if isinstance(selected, str) else ""
    if name not in HASHES:
        raise ServiceMalformed(f"auth: hash algorithm {str(selected)[:20]!r}, want one of {', '.join(HASHES)}")
    return name


def _object(answer: Answer, what: str) -> dict[str, object]:
    body = strict_json(answer.body, what, error=ServiceMalformed)
    if not isinstance(body, dict):
        raise ServiceMalformed(f"{what}: the answer is not a JSON object")
    return body


def _failure(answer: Answer, what: str) -> Exception:
    kind, detail, reasons = _problem(answer.body)
    text = f"{what}: {detail or 'no explanation'} (HTTP {answer.status})"
    if answer.status == 403 or (answer.status == 401 and kind in ("PolicyDeny", "AttestationError")):
        return Refused(text, reasons)
    if answer.status == 401:
        # A version mismatch will not go away by asking again.
        return Refused(text, reasons) if "Version Mismatch" in detail else SessionLost(text)
    if answer.status == 404:
        return SecretNotFound(text)
    if answer.status in (408, 425, 429) or answer.status >= 500:
        return ServiceUnavailable(text)
    return ServiceMalformed(text)


def _problem(body: bytes) -> tuple[str, str, tuple[str, ...]]:
    """Kind, detail and reasons of the service's error body; empty where it has none."""
    try:
        problem = strict_json(body, "error body", error=ServiceMalformed)
    except ServiceMalformed:
        return "", "", ()
    if not isinstance(problem, dict):
        return "", "", ()
    kind, detail, reasons = problem.get("type"), problem.get("detail"), problem.get("reasons")
    listed = [item[:MAX_REASON] for item in reasons if isinstance(item, str)] if isinstance(reasons, list) else []
    return (
        kind.rsplit("/", 1)[-1] if isinstance(kind, str) else "",
        detail[:MAX_REASON] if isinstance(detail, str) else "",
        tuple(listed[:MAX_REASONS]),
    )
