"""A fresh challenge for whoever asks: 32 random bytes that may be used once."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from attest.broker.protocol import parse_auth
from attest.broker.service import Service
from attest.store import sessions
from policy.vocab import Nonce

_ID_BYTES = 32


@dataclass(frozen=True, slots=True)
class Challenge:
    """``nonce`` is standard base64 with padding, 44 characters; ``session_id`` is the cookie's value."""

    session_id: str
    nonce: str
    expires: datetime


def challenge(service: Service, body: bytes, now: datetime) -> Challenge:
    """Open a session for the body of ``POST /auth``."""
    request = parse_auth(body)
    nonce = base64.b64encode(Nonce(service.random(Nonce.LENGTH))).decode("ascii")
    session_id = service.random(_ID_BYTES).hex()
    expires = now + service.challenge_lifetime

    def open_session(tx: Connection) -> None:
        sessions.add(tx, session_id, nonce=nonce, tee=request.tee, now=now, expires=expires, version=request.version)

    # A machine that stops may forget challenges: their guests ask again.
    service.writes.run(open_session, lasting=False)
    return Challenge(session_id, nonce, expires)
