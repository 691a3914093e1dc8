"""Proofs of answers: who answered what to whom, signed with a key that guests have measured.

TLS says that whoever answers holds a certificate. A proof says that the service with the pinned key gave *this* answer
to *this* request of *this* guest, and when: it covers the guest's own random challenge, method, path, status, the
body's SHA-256, the session's nonce, the guest's key and the time. A guest that pins the key takes no disk key from
whoever holds the certificate only, and learns the time from nobody else.

A JWS (RFC 7515, compact) in the header ``Cvm-Proof``, made only for requests with ``Cvm-Challenge``: other clients send
none and see no difference. The public key is in the JWS; it counts for what it is by its RFC 7638 thumbprint alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from datetime import datetime

import jwt

from attest.broker.release import Credential
from attest.broker.service import Service
from attest.keys.signing import SigningKey, thumbprint
from attest.store import decisions, sessions

TYPE = "cvm-answer+jwt"
CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request as it came and the answer as it goes. ``challenge`` is 32 random bytes of the guest, base64url;
    ``path`` is the request's target, percent-encoded and with its query as it was sent.
    """

    challenge: str
    method: str
    path: str
    status: int
    body: bytes


def prove(service: Service, key: SigningKey, exchange: Exchange, shown: Credential, now: datetime) -> str:
    """The compact JWS. Raises StoreUnavailable."""
    nonce, guest_key = _session(service, shown)
    statement = {
        "challenge": exchange.challenge,
        "method": exchange.method,
        "path": exchange.path,
        "status": exchange.status,
        "body": base64.urlsafe_b64encode(hashlib.sha256(exchange.body).digest()).rstrip(b"=").decode(),
        "nonce": nonce,
        "key": guest_key,
        "time": int(now.timestamp()),
    }
    public = {name: key.jwk[name] for name in ("kty", "crv", "x", "y")}
    return jwt.encode(statement, key.private, algorithm=key.algorithm, headers={"typ": TYPE, "jwk": public})


def _session(service: Service, shown: Credential) -> tuple[str, str]:
    """The nonce of the session and the thumbprint of the key its decision is about; empty where there is none."""
    if shown.session_id is None:
        return "", ""
    with service.database.read() as tx:
        session = sessions.find(tx, shown.session_id)
        decision = None if session is None or session.decision is None else decisions.get(tx, session.decision)
    if session is None:
        return "", ""
    return session.nonce, "" if decision is None else key_name(json.loads(decision.tee_pubkey))


def key_name(jwk: dict[str, str]) -> str:
    """RFC 7638 thumbprint of a guest's key, EC or RSA."""
    if jwk.get("kty") == "EC":
        return thumbprint(jwk)
    text = json.dumps({name: jwk[name] for name in ("e", "kty", "n")}, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
