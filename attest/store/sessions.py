"""Sessions: a challenge that was handed out, whether its nonce was used, and the decision that came of it.

The nonce of a session is consumed by one conditional UPDATE in its own transaction, before any verification: of two
requests that carry the same nonce, in whatever processes, exactly one sees one row changed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from attest.store.prepared import Prepared
from attest.store.schema import sessions
from attest.store.times import from_micros, to_micros

KEEP_EXPIRED = timedelta(hours=1)
"""How long an expired session is remembered, so that a late replay is still told why it is refused."""


@dataclass(frozen=True, slots=True)
class Session:
    """One row of ``sessions``."""

    nonce: str
    tee: str
    expires: datetime
    nonce_used: datetime | None
    decision: int | None
    version: str


class Consumed(Enum):
    """What came of consuming a nonce."""

    NOW = "consumed"
    ALREADY = "already used"
    EXPIRED = "expired"
    OTHER_NONCE = "another nonce"
    OTHER_VERSION = "another protocol version"
    UNKNOWN_SESSION = "unknown session"


_ITS = sessions.c.id_sha256 == bindparam("key")
_FORGET = Prepared(delete(sessions).where(sessions.c.expires < bindparam("before")))
_ADD = Prepared(insert(sessions), ("id_sha256", "nonce", "tee", "version", "created", "expires"))
_FIND = Prepared(select(sessions).where(_ITS))
_ATTACH = Prepared(update(sessions).where(_ITS).values(decision=bindparam("of_decision")))
_ANY_NONCE = (
    update(sessions)
    .where(
        _ITS,
        sessions.c.version == bindparam("of_version"),
        sessions.c.nonce_used.is_(None),
        sessions.c.expires > bindparam("at"),
    )
    .values(nonce_used=bindparam("at"))
)
_CONSUME = Prepared(_ANY_NONCE)
_CONSUME_IT = Prepared(_ANY_NONCE.where(sessions.c.nonce == bindparam("its_nonce")))


def _key(session_id: str) -> bytes:
    return hashlib.sha256(session_id.encode()).digest()


def add(
    tx: Connection, session_id: str, *, nonce: str, tee: str, now: datetime, expires: datetime, version: str = "0.4.0"
) -> None:
    """Remember a challenge, and forget those that expired long ago."""
    _FORGET.change(tx, {"before": to_micros(now - KEEP_EXPIRED)})
    _ADD.change(
        tx,
        {
            "id_sha256": _key(session_id),
            "nonce": nonce,
            "tee": tee,
            "version": version,
            "created": to_micros(now),
            "expires": to_micros(expires),
        },
    )


def consume(tx: Connection, session_id: str, nonce: str | None, now: datetime, version: str = "0.4.0") -> Consumed:
    """Use up the nonce of a session, or say why not. Run it in a writing transaction of its own.

    ``nonce`` is ``None`` where the protocol version does not repeat it; the session's own is used up then.
    """
    key, at = _key(session_id), to_micros(now)
    asked = {"key": key, "of_version": version, "at": at}
    changed = _CONSUME.change(tx, asked) if nonce is None else _CONSUME_IT.change(tx, asked | {"its_nonce": nonce})
    if changed == 1:
        return Consumed.NOW
    session = find(tx, session_id)
    if session is None:
        return Consumed.UNKNOWN_SESSION
    if session.nonce_used is not None:
        return Consumed.ALREADY
    if to_micros(session.expires) <= at:
        return Consumed.EXPIRED
    return Consumed.OTHER_NONCE if session.version == version else Consumed.OTHER_VERSION


def find(tx: Connection, session_id: str) -> Session | None:
    """The session of a cookie."""
    row = _FIND.first(tx, {"key": _key(session_id)})
    if row is None:
        return None
    used = None if row.nonce_used is None else from_micros(row.nonce_used)
    return Session(row.nonce, row.tee, from_micros(row.expires), used, row.decision, row.version)


def attach_decision(tx: Connection, session_id: str, decision: int) -> None:
    """From now on the session stands for this decision."""
    _ATTACH.change(tx, {"key": _key(session_id), "of_decision": decision})
