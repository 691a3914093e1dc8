"""What hosts launched: records they sign with a key that operators registered.

A launch record (``cvm.launch-record/1``, in a DSSE envelope) says what a host started: the VM's name, the digest of its
configuration, QEMU's command line, the firmware, QEMU itself, and the launch digest that is to be expected. It proves
what the *host* said, never what runs: that is what the chip signs. Together they tell a launch nobody knows of.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attest.audit.record import HOST_ADD, HOST_RETIRE, LAUNCH, Actor, Event
from attest.broker.errors import RequestMalformed
from attest.broker.operations import By
from attest.broker.trail import append
from attest.keys.statement import LAUNCH as LAUNCH_TYPE
from attest.keys.statement import PublicKey, Signers, key_id, public_key, unwrap
from attest.store import blobs, hosts
from attest.store.engine import Database
from attest.store.hosts import StoredHost
from policy.strictjson import strict_json

SCHEMA = "cvm.launch-record/1"
MAX_LAUNCH = 1 << 20
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}")
_DIGESTS = {"config_sha256": 64, "firmware_sha256": 64, "qemu_sha256": 64, "measurement": 96}
_TEXTS = {"schema", "vm", "time", "qemu_version"}
_MEMBERS = _TEXTS | {*_DIGESTS, "argv"}


@dataclass(frozen=True, slots=True)
class Launched:
    """A launch on record: its number, which host said so, and what it said."""

    number: int
    host: str
    statement: Mapping[str, Any]


def add_host(database: Database, name: str, pem: bytes, by: By) -> StoredHost:
    """Register a host's public key (PEM, Ed25519 or P-384). Raises RequestMalformed, KeyFileRefused, AlreadyExists."""
    if not _NAME.fullmatch(name):
        raise RequestMalformed(f"host {name[:64]!r}: want letters, digits, '.', '_' or '-', at most 64")
    host = StoredHost(key_id(public_key(pem, f"host {name}")), name, pem, by.now, str(by.actor))
    with database.write() as tx:
        hosts.add(tx, host)
        append(tx, Event(by.now, HOST_ADD, name, "registered", by.actor, {"key_id": host.key_id, "key": pem.decode()}))
    return host


def retire_host(database: Database, name: str, by: By) -> None:
    """No launch of this host is believed any more; those on record stay. Raises NotFound."""
    with database.write() as tx:
        found = hosts.retire(tx, name, by.now)
        body = {"key_ids": [host.key_id for host in found]}
        append(tx, Event(by.now, HOST_RETIRE, name, "retired", by.actor, body))


def record_launch(database: Database, envelope: bytes, by: By) -> Launched:
    """Put a host's signed launch record on ours. The same one again is the same record's bytes, and a second record.

    Raises SignatureRefused where no registered host signed it, RequestMalformed where it says too little.
    """
    signed = unwrap(envelope, LAUNCH_TYPE)
    statement = parse_launch(signed.data)
    with database.write() as tx:
        known = {host.key_id: host for host in hosts.every(tx) if host.retired is None}
        keys: list[tuple[str, PublicKey]] = [
            (name, public_key(host.key, f"host {host.name}")) for name, host in known.items()
        ]
        if not keys:
            raise RequestMalformed("launch: no host is registered", hint="attest host add NAME KEY.pem")
        (signer, *_) = Signers(tuple(keys)).check(signed, LAUNCH_TYPE, "launch")
        host = known[signer]
        body = {
            **{name: statement[name] for name in sorted(_MEMBERS - {"schema", "argv"})},
            "argv": statement["argv"],
            "host": host.name,
            "key_id": signer,
            "envelope": blobs.put(tx, envelope),
            "received_from": str(by.actor),
        }
        number = append(tx, Event(by.now, LAUNCH, statement["vm"], "launched", Actor("host", host.name), body))
    return Launched(number, host.name, statement)


def parse_launch(data: bytes) -> dict[str, Any]:
    """The statement, complete and in form. Raises RequestMalformed."""
    document: Any = strict_json(data, "launch", max_bytes=MAX_LAUNCH, error=RequestMalformed)
    if not isinstance(document, dict) or set(document) != _MEMBERS or document["schema"] != SCHEMA:
        raise RequestMalformed(f"launch: want the members of {SCHEMA}: {', '.join(sorted(_MEMBERS))}")
    for name in _TEXTS:
        if not isinstance(document[name], str) or len(document[name]) > 200:
            raise RequestMalformed(f"launch: {name}: want text of at most 200 characters")
    for name, length in _DIGESTS.items():
        if not isinstance(document[name], str) or not re.fullmatch(rf"[0-9a-f]{{{length}}}", document[name]):
            raise RequestMalformed(f"launch: {name}: want {length} lower-case hexadecimal digits")
    if not _NAME.fullmatch(document["vm"]):
        raise RequestMalformed(f"launch: vm: got {document['vm'][:64]!r}, want a VM's name")
    argv = document["argv"]
    if not isinstance(argv, list) or not argv or not all(isinstance(word, str) for word in argv):
        raise RequestMalformed("launch: argv: want a list of words")
    return document
