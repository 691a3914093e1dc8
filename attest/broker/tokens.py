"""What may be asked about tokens once they are out: whether one still counts, which were revoked, and revoking one.

A token is looked up by its decision, so revoking it ends the session of the same attestation too. Relying parties that
verify tokens by themselves read :func:`revocation_list`; it names only tokens that would otherwise still be valid, so
with tokens of minutes it is short.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attest.audit.canonical import rfc3339
from attest.audit.record import TOKEN_REVOKE, Event
from attest.broker.errors import RequestMalformed, TokenRefused
from attest.broker.operations import By
from attest.broker.service import Service
from attest.broker.token import MAX_TOKEN, token_id_of
from attest.broker.trail import append
from attest.store import decisions, rules
from attest.store.decisions import StoredDecision
from attest.store.engine import Database
from attest.store.errors import NotFound

MAX_REASON = 200
_TOKEN_ID = re.compile(r"[0-9a-f]{32}")


def introspect(service: Service, text: str, now: datetime) -> dict[str, Any]:
    """Whether a token counts at ``now``, in the words of RFC 7662: ``active``, and why not where it does not."""
    if len(text) > MAX_TOKEN:
        raise RequestMalformed(f"token: {len(text)} characters, want at most {MAX_TOKEN}")
    try:
        token_id = token_id_of(service.signing_keys, service.token, text, now=now)
    except TokenRefused as exc:
        return {"active": False, "code": exc.code}
    with service.database.read() as tx:
        decision, generation = decisions.by_token(tx, token_id), rules.generation(tx)
    if decision is None:
        return {"active": False, "code": "token.unknown"}
    ended, shown = decision.ended(generation, now), token_json(decision)
    return {"active": False, "code": f"token.{ended}", **shown} if ended else {"active": True, **shown}


def find(database: Database, token_id: str) -> StoredDecision:
    """The decision a token stands for. Raises RequestMalformed, NotFound."""
    if not _TOKEN_ID.fullmatch(token_id):
        raise RequestMalformed(f"token id {token_id[:40]!r}: want the 32 hexadecimal digits of jti")
    with database.read() as tx:
        decision = decisions.by_token(tx, token_id)
    if decision is None:
        raise NotFound(f"token {token_id}: not one this service issued")
    return decision


def revoke(database: Database, token_id: str, reason: str, by: By) -> StoredDecision:
    """End a token and its session now, on record with the reason. Revoking again changes nothing.

    Raises RequestMalformed, NotFound.
    """
    if not 0 < len(reason) <= MAX_REASON or not reason.isprintable():
        raise RequestMalformed(f"reason: want 1 to {MAX_REASON} printable characters")
    find(database, token_id)
    with database.write() as tx:
        decision = decisions.by_token(tx, token_id)
        if decision is not None and decision.revoked is None:
            decisions.revoke(tx, decision.id, by.now)
            body = {"decision": decision.id, "reason": reason}
            append(tx, Event(by.now, TOKEN_REVOKE, token_id, "revoked", by.actor, body))
    return find(database, token_id)


def revocation_list(service: Service, now: datetime) -> dict[str, Any]:
    """Every revoked token that has not expired."""
    with service.database.read() as tx:
        found = decisions.revoked(tx, now)
    return {
        "schema": "attest.token.revoked/1",
        "issuer": service.token.issuer,
        "time": rfc3339(now),
        "revoked": [{"jti": entry.token_id, "exp": int(entry.expires.timestamp())} for entry in found],
    }


def token_json(decision: StoredDecision) -> Mapping[str, Any]:
    """A token by its decision; nothing in it is secret."""
    return {
        "jti": decision.token_id,
        "decision": decision.id,
        "status": decision.status,
        "emulated": decision.emulated,
        "references": list(decision.references),
        "iat": int(decision.time.timestamp()),
        "exp": int(decision.expires.timestamp()),
        "revoked": None if decision.revoked is None else rfc3339(decision.revoked),
    }
