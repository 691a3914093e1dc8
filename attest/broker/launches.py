"""What hosts launched: statements they sign with a key that operators registered, each on record once.

A launch record says what a host started: the VM's name, the digest of its configuration, QEMU's command line, the
firmware, QEMU itself, and the launch digest that is to be expected. It proves what the *host* said, never what runs:
that is what the chip signs. Together they tell a launch nobody knows of.

A statement is known again by its key and the bytes that were signed, so neither a sender that tries again nor somebody
who wraps the same statement in another envelope makes a second record. The signature is checked before the database is
locked for writing: who has no key costs us no more than that check.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from attest.audit.record import LAUNCH, LAUNCH_END, Actor, Event
from attest.broker.launch_statement import Statement, parse_statement
from attest.broker.limits import Limiter
from attest.broker.operations import By
from attest.broker.trail import append
from attest.keys.statement import LAUNCH as LAUNCH_TYPE
from attest.keys.statement import SignatureRefused, Signed, Signers, public_key, unwrap
from attest.store import blobs, hosts, launches
from attest.store.engine import Database
from attest.store.hosts import StoredHost
from attest.store.launches import StoredStatement


class HostRefused(SignatureRefused):
    """No host whose word counts signed this: unknown, retired, or the signature does not fit."""

    code = "host.refused"


@dataclass(frozen=True, slots=True)
class Launched:
    """A statement on record: its number, which host said so, what it said, and whether it is new."""

    number: int
    host: str
    statement: Statement
    new: bool


def launched_json(found: Launched) -> dict[str, Any]:
    """A statement on record, for programs."""
    return {
        "record": found.number,
        "host": found.host,
        "vm": found.statement.vm,
        "ended": found.statement.ended,
        "new": found.new,
    }


def record_launch(
    database: Database, envelope: bytes, by: By, sender: str | None = None, limit: Limiter | None = None
) -> Launched:
    """Put a host's signed statement on record; one that is there already gives its record.

    ``sender`` is who brought it, where that is not ``by.actor``; ``limit`` counts what one host sends.

    Raises HostRefused where no registered host signed it, SignatureRefused for an envelope that is none,
    RequestMalformed where the statement says too little, TooMany.
    """
    signed = unwrap(envelope, LAUNCH_TYPE)
    if not signed.signatures:
        raise SignatureRefused("launch: not a DSSE envelope: want payload, payloadType and signatures")
    with database.read() as tx:
        host = _signer(signed, hosts.every(tx))
    if limit is not None:
        limit.check(host.key_id.encode())
    statement = parse_statement(signed.data)
    came = _Arrival(statement, hashlib.sha256(signed.data).hexdigest(), envelope, by.now, sender or str(by.actor))
    with database.write() as tx:
        host = _signer(signed, hosts.every(tx))
        before = launches.record_of(tx, host.key_id, came.digest)
        if before is not None:
            return Launched(before, host.name, statement, new=False)
        number = append(tx, _event(tx, host, came))
        launches.add(tx, _stored(host, came, number))
    return Launched(number, host.name, statement, new=True)


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A statement whose signature holds: ``digest`` names it, ``sender`` brought it."""

    statement: Statement
    digest: str
    envelope: bytes
    now: datetime
    sender: str


def _signer(signed: Signed, known: tuple[StoredHost, ...]) -> StoredHost:
    """The first host in force that signed. Raises HostRefused."""
    by_id = {host.key_id: host for host in known}
    named = [by_id[name] for name, _ in signed.signatures if name in by_id]
    if not named:
        raise HostRefused("launch: no registered host signed it", hint="attest host add NAME KEY.pem")
    in_force = [host for host in named if host.retired is None]
    if not in_force:
        raise HostRefused(f"launch: host {named[0].name} is retired", code="host.retired")
    keys = Signers(tuple((host.key_id, public_key(host.key, f"host {host.name}")) for host in in_force))
    try:
        keys.check(signed, LAUNCH_TYPE, "launch")
    except SignatureRefused as exc:
        raise HostRefused(exc.message, code="host.signature") from None
    return in_force[0]


def _event(tx: Connection, host: StoredHost, came: _Arrival) -> Event:
    statement = came.statement
    body = {
        **{name: value for name, value in statement.members.items() if name != "schema"},
        "host": host.name,
        "key_id": host.key_id,
        "statement_sha256": came.digest,
        "envelope": blobs.put(tx, came.envelope),
        "received_from": came.sender,
    }
    if statement.ended:
        body["launch"] = launches.record_of(tx, host.key_id, str(statement.members["launch_sha256"]))
    kind, outcome = (LAUNCH_END, "ended") if statement.ended else (LAUNCH, "launched")
    return Event(came.now, kind, statement.vm, outcome, Actor("host", host.name), body)


def _stored(host: StoredHost, came: _Arrival, number: int) -> StoredStatement:
    """A host whose clock is ahead does not make its launch count for longer."""
    statement = came.statement
    measurement = None if statement.ended else str(statement.members["measurement"])
    when = min(came.now, statement.time)
    return StoredStatement(host.key_id, came.digest, number, host.name, statement.vm, measurement, when)
