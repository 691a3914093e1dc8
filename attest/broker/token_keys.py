"""Keys that sign tokens in the database: one rotation, on record, is every replica's.

They are sealed under the master key as resources are, at a path that no resource can have. So who reads or writes the
database signs nothing; who has the master key as well could read every resource anyway.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from attest.audit.record import TOKEN_KEY, Event
from attest.broker.errors import RequestMalformed, ServiceMisconfigured
from attest.broker.operations import By
from attest.broker.trail import append
from attest.keys.envelope import Sealed, renewed, seal, unseal
from attest.keys.master import MasterKeys
from attest.keys.ring import LOOK_SECONDS, MAX_KEYS, KeyRing, RingKey, outlived, ring_json
from attest.keys.signing import Algorithm, generate_signing_key, parse_signing_key
from attest.store import token_keys
from attest.store.engine import Database
from attest.store.token_keys import StoredTokenKey
from policy.errors import CvmError
from policy.secret import SecretBytes

MOST_SECONDS, ROTATE_AFTER = 86400, 600
"""Seconds until a new key signs: at most, and where nobody says."""
_VERSION = 1
_log = logging.getLogger("attest.keys")


class StoredRing(KeyRing):
    """The keys of the database, looked at once a second at most. What cannot be read then leaves the known ones.

    Safe to make before a fork. ``clock`` is a monotonic one, in seconds. Raises, when it is made, StoreUnavailable,
    SealBroken, KeyUnavailable, and ServiceMisconfigured where there is no key.
    """

    def __init__(
        self, database: Database, master_keys: MasterKeys, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._master_keys = master_keys
        self._clock = clock
        self._keys: tuple[RingKey, ...] = ()
        self._look()

    def entries(self) -> tuple[RingKey, ...]:
        """Every key with its time, oldest first."""
        if self._clock() - self._looked >= LOOK_SECONDS:
            try:
                self._look()
            except CvmError as exc:
                _log.error("token keys not read again, the known ones stay: %s", exc.message)
        return self._keys

    def _look(self) -> None:
        self._looked = self._clock()
        with self._database.read() as tx:
            rows = token_keys.every(tx)
        if not rows:
            raise ServiceMisconfigured(
                "token keys: the database has none", code="token-keys.none", hint="attest token rotate --after 0"
            )
        known = {entry.key.kid: entry for entry in self._keys}
        self._keys = tuple(known.get(row.kid) or _opened(self._master_keys, row) for row in rows)


@dataclass(frozen=True, slots=True)
class Rotation:
    """``made`` is the new key; ``erased`` names those that no token needs any more."""

    made: RingKey
    erased: tuple[str, ...]


def rotate(
    database: Database, master_keys: MasterKeys, after: int, algorithm: Algorithm, keep_for: timedelta, by: By
) -> Rotation:
    """Make the key that signs from so many seconds after ``by.now``, and erase those whose successor has signed for
    longer than ``keep_for`` (a token's life). Raises RequestMalformed, KeyUnavailable.
    """
    if not 0 <= after <= MOST_SECONDS:
        raise RequestMalformed(f"after: got {after}, want 0..{MOST_SECONDS}")
    begins = by.now.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=after)
    key, pem = generate_signing_key(algorithm)
    made, secret = RingKey(key, begins), SecretBytes(pem)
    with database.write() as tx:
        rows = token_keys.every(tx)
        _check_room(rows, begins)
        sealed = seal(master_keys, _path(key.kid), _VERSION, secret)
        token_keys.add(
            tx,
            StoredTokenKey(
                key.kid,
                key.algorithm,
                begins,
                str(by.actor),
                sealed.master_key_id,
                sealed.wrapped_key,
                sealed.ciphertext,
            ),
        )
        old = outlived(rows, by.now, keep_for)
        for row in old:
            token_keys.erase(tx, row.kid)
        erased = tuple(row.kid for row in old)
        body = {"algorithm": key.algorithm, "begins": begins, "erased": erased, "master_key_id": sealed.master_key_id}
        append(tx, Event(by.now, TOKEN_KEY, key.kid, "rotated", by.actor, body))
    secret.wipe()
    return Rotation(made, erased)


def rotation_json(done: Rotation) -> dict[str, Any]:
    """A rotation for people and programs."""
    return {**ring_json(done.made), "erased": list(done.erased)}


def rewrap_token_keys(tx: Connection, keys: MasterKeys) -> list[str]:
    """Have each under the newest master key; returns the ids of the master keys that others were under before."""
    before = []
    for row in token_keys.every(tx):
        again = renewed(keys, _path(row.kid), _VERSION, _sealed(row))
        if again is not None:
            token_keys.rewrapped(tx, row.kid, again.master_key_id, again.wrapped_key)
            before.append(row.master_key_id)
    return before


def _check_room(rows: tuple[StoredTokenKey, ...], begins: datetime) -> None:
    if rows and begins <= rows[-1].begins:
        raise RequestMalformed(f"token keys: one begins at {rows[-1].begins:%FT%TZ}, want a later time")
    if len(rows) >= MAX_KEYS:
        raise RequestMalformed(f"token keys: {len(rows)} already, want at most {MAX_KEYS}: tokens still need them")


def _opened(keys: MasterKeys, row: StoredTokenKey) -> RingKey:
    value = unseal(keys, _path(row.kid), _VERSION, _sealed(row))
    key = parse_signing_key(value.reveal(), row.kid)
    value.wipe()
    return RingKey(key, row.begins)


def _sealed(row: StoredTokenKey) -> Sealed:
    return Sealed(row.master_key_id, row.wrapped_key, row.ciphertext)


def _path(kid: str) -> str:
    """With a character that no path of a resource has."""
    return f"token-key:{kid}"
