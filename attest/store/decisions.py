"""Decisions that let a guest ask for resources: found by the audit record's number or by the token's id."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from attest.store.prepared import Prepared
from attest.store.schema import decisions
from attest.store.times import from_micros, to_micros


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """A decision in force until ``expires``.

    ``status`` is the EAR status, ``generation`` the rules it was made under, ``tee_pubkey`` the guest's JWK as
    JSON text, ``references`` the names of the reference values its launch digest matched, ``revoked`` when an
    operator ended it early, ``facts`` what was found out about the guest, JSON text.
    """

    id: int
    token_id: str
    time: datetime
    expires: datetime
    status: str
    generation: int
    emulated: bool
    tee_pubkey: str
    references: tuple[str, ...]
    revoked: datetime | None = None
    facts: str | None = None

    def ended(self, generation: int, now: datetime) -> str | None:
        """Why it opens nothing under rules of ``generation``: ``revoked``, ``expired``, ``outdated``; else ``None``."""
        if self.revoked is not None:
            return "revoked"
        if now >= self.expires:
            return "expired"
        return "outdated" if self.generation != generation else None


_ADD = Prepared(insert(decisions), [column.name for column in decisions.columns if column.name != "revoked"])
_GET = Prepared(select(decisions).where(decisions.c.id == bindparam("number")))
_BY_TOKEN = Prepared(select(decisions).where(decisions.c.token_id == bindparam("jti")))


def add(tx: Connection, decision: StoredDecision) -> None:
    """Remember a decision; its audit record is appended before, in the same transaction."""
    _ADD.change(
        tx,
        {
            "id": decision.id,
            "token_id": decision.token_id,
            "time": to_micros(decision.time),
            "expires": to_micros(decision.expires),
            "status": decision.status,
            "generation": decision.generation,
            "emulated": decision.emulated,
            "tee_pubkey": decision.tee_pubkey,
            "references": json.dumps(decision.references),
            "facts": decision.facts,
        },
    )


def get(tx: Connection, decision_id: int) -> StoredDecision | None:
    """By number."""
    return _stored(_GET.first(tx, {"number": decision_id}))


def by_token(tx: Connection, token_id: str) -> StoredDecision | None:
    """By the token's ``jti``."""
    return _stored(_BY_TOKEN.first(tx, {"jti": token_id}))


def revoke(tx: Connection, decision_id: int, now: datetime) -> None:
    """End a decision early. One that was revoked before keeps its first time."""
    tx.execute(
        update(decisions)
        .where(decisions.c.id == decision_id, decisions.c.revoked.is_(None))
        .values(revoked=to_micros(now))
    )


def revoked(tx: Connection, now: datetime) -> tuple[StoredDecision, ...]:
    """Decisions revoked before their end, which is still to come: what a relying party must not accept."""
    found = select(decisions).where(decisions.c.revoked.is_not(None), decisions.c.expires > to_micros(now))
    return tuple(entry for row in tx.execute(found.order_by(decisions.c.id)) if (entry := _stored(row)) is not None)


def _stored(row: Any) -> StoredDecision | None:
    if row is None:
        return None
    return StoredDecision(
        id=row.id,
        token_id=row.token_id,
        time=from_micros(row.time),
        expires=from_micros(row.expires),
        status=row.status,
        generation=row.generation,
        emulated=bool(row.emulated),
        tee_pubkey=row.tee_pubkey,
        references=tuple(json.loads(row.references)),
        revoked=None if row.revoked is None else from_micros(row.revoked),
        facts=row.facts,
    )
