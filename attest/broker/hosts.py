"""Hosts whose word about launches is believed: operators register and retire their keys."""

from __future__ import annotations

from typing import Any

from attest.audit.canonical import rfc3339
from attest.audit.record import HOST_ADD, HOST_RETIRE, Event
from attest.broker.errors import RequestMalformed
from attest.broker.launch_statement import NAME
from attest.broker.operations import By
from attest.broker.trail import append
from attest.keys.errors import KeyFileRefused
from attest.keys.statement import key_id, public_key
from attest.store import hosts
from attest.store.engine import Database
from attest.store.hosts import StoredHost


def add_host(database: Database, name: str, pem: bytes, by: By) -> StoredHost:
    """Register a host's public key (PEM, Ed25519 or P-384). Raises RequestMalformed, AlreadyExists."""
    if not NAME.fullmatch(name):
        raise RequestMalformed(f"host {name[:64]!r}: want letters, digits, '.', '_' or '-', at most 64")
    try:
        host = StoredHost(key_id(public_key(pem, f"host {name}")), name, pem, by.now, str(by.actor))
        text = pem.decode("ascii")  # what stands beside a PEM block is passed over by its reader, and goes on record
    except KeyFileRefused as exc:
        raise RequestMalformed(exc.message) from None
    except UnicodeDecodeError as exc:
        raise RequestMalformed(f"host {name}: byte {exc.start} of its key is not ASCII") from None
    with database.write() as tx:
        hosts.add(tx, host)
        append(tx, Event(by.now, HOST_ADD, name, "registered", by.actor, {"key_id": host.key_id, "key": text}))
    return host


def retire_host(database: Database, name: str, by: By) -> None:
    """No launch of this host is believed any more; those on record stay. Raises NotFound."""
    with database.write() as tx:
        found = hosts.retire(tx, name, by.now)
        body = {"key_ids": [host.key_id for host in found]}
        append(tx, Event(by.now, HOST_RETIRE, name, "retired", by.actor, body))


def host_json(host: StoredHost) -> dict[str, Any]:
    """A host and its life, for listings."""
    return {
        "name": host.name,
        "key_id": host.key_id,
        "added": rfc3339(host.added),
        "added_by": host.added_by,
        "retired": None if host.retired is None else rfc3339(host.retired),
    }
