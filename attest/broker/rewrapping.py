"""After a master key was added or rotated: every data key under the newest one."""

from __future__ import annotations

from attest.audit.record import KEYS_REWRAP, Event
from attest.broker.operations import By
from attest.broker.token_keys import rewrap_token_keys
from attest.broker.trail import append
from attest.keys.envelope import Sealed, renewed
from attest.keys.master import MasterKeys
from attest.store import secrets
from attest.store.engine import Database


def rewrap_all(database: Database, keys: MasterKeys, by: By) -> int:
    """Wrap every data key anew under the newest master key; returns of how many resources it was under another, or an
    older version of it. Those of stored token keys are wrapped with them.

    One transaction: all or none. Values and their versions stay as they are. Raises SealBroken, KeyUnavailable.
    """
    before = []
    with database.write() as tx:
        for row in secrets.all_sealed(tx):
            again = renewed(keys, row.path, row.version, Sealed(row.master_key_id, row.wrapped_key, row.ciphertext))
            if again is not None:
                secrets.rewrapped(tx, row, again.master_key_id, again.wrapped_key)
                before.append(row.master_key_id)
        tokens = rewrap_token_keys(tx, keys)
        if before or tokens:
            body = {"resources": len(before), "token_keys": len(tokens), "from": sorted({*before, *tokens})}
            append(tx, Event(by.now, KEYS_REWRAP, keys.newest, "rewrapped", by.actor, body))
    return len(before)
