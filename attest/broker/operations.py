"""What operators do with resources and reference values. Every change and its audit record are one transaction."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, replace
from datetime import datetime

from attest.audit.record import (
    REFERENCE_ADD,
    REFERENCE_RETIRE,
    RESOURCE_DELETE,
    RESOURCE_PUT,
    Actor,
    Event,
)
from attest.broker.conditions import CHANGE, need_approval
from attest.broker.errors import RequestMalformed, RotationState
from attest.broker.rules import remember_set
from attest.broker.trail import append
from attest.keys.envelope import seal
from attest.keys.master import MasterKeys
from attest.keys.statement import REFERENCE, Signed, Signers, envelope, unwrap
from attest.store import blobs, disk_keys, rules, secrets
from attest.store.engine import Database
from policy.reference import LaunchRecipe, ReferenceValue, reference_from_bytes
from policy.secret import SecretBytes
from policy.stage import Canary, Stage, stage_json
from policy.vocab import ResourcePath

MAX_SECRET = 64 * 1024
MAX_GENERATED = 4096
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class By:
    """Who does something, and when."""

    actor: Actor
    now: datetime


@dataclass(frozen=True, slots=True)
class NewResource:
    """A value to store. ``only_for`` names reference values, one of which a guest must match; ``None``: any guest.

    ``luks_header`` is the digest (hexadecimal) of the header of the disk that the value opens, where it is known. With
    a ``source`` the value says where the real one is kept.
    """

    path: ResourcePath
    value: SecretBytes
    replace: bool = False
    only_for: tuple[str, ...] | None = None
    luks_header: str | None = None
    source: str | None = None


def put_resource(database: Database, keys: MasterKeys, new: NewResource, by: By) -> int:
    """Store a resource; returns its version. Raises AlreadyExists unless ``replace``, RequestMalformed for its size,
    RotationState while a key of that path is being replaced from inside the guest, ApprovalMissing where there is a
    value whose conditions ask for approval of a change: with another key and header a guest opens another disk.
    """
    path, size = new.path, len(new.value)
    if not 0 < size <= MAX_SECRET:
        raise RequestMalformed(f"resource {path}: {size} bytes, want 1 to {MAX_SECRET}")
    header = None if new.luks_header is None else check_digest(new.luks_header)
    with database.write() as tx:
        version = secrets.next_version(tx, path, replace=new.replace)
        if disk_keys.rotation(tx, path) is not None:
            raise RotationState(f"key {path}: it is being replaced", hint="finish that, or attest key rotate --abort")
        if secrets.sealed(tx, path) is not None:
            need_approval(tx, path, CHANGE, by.now)
        row = replace(seal_row(keys, path, version, new.value, new.only_for), source=new.source)
        secrets.add(tx, row, size=size, now=by.now, actor=str(by.actor))
        disk_keys.forget_headers(tx, path)
        body = {"version": version, "size": size, "master_key_id": row.master_key_id, "only_for": new.only_for}
        if header is not None:
            disk_keys.add_header(tx, path, version, header, by.now)
            body["luks_header"] = header
        if new.source is not None:
            body["source"] = new.source
        append(tx, Event(by.now, RESOURCE_PUT, str(path), "stored", by.actor, body))
    return version


def seal_row(
    keys: MasterKeys, path: ResourcePath, version: int, value: SecretBytes, only_for: tuple[str, ...] | None
) -> secrets.SealedRow:
    """The value as it is stored. Raises KeyUnavailable."""
    sealed = seal(keys, path, version, value)
    return secrets.SealedRow(path, version, sealed.master_key_id, sealed.wrapped_key, sealed.ciphertext, only_for)


def check_digest(text: str) -> str:
    """The digest of a LUKS header as it is. Raises RequestMalformed."""
    if not _DIGEST.fullmatch(text):
        raise RequestMalformed(f"luks header: got {text[:80]!r}, want a SHA-256, 64 lower-case hexadecimal digits")
    return text


def generate_resource(
    database: Database, keys: MasterKeys, path: ResourcePath, size: int, replace: bool, by: By
) -> int:
    """Store ``size`` random bytes that leave only to guests; returns the version. Raises as :func:`put_resource`."""
    if not 16 <= size <= MAX_GENERATED:
        raise RequestMalformed(f"resource {path}: {size} random bytes, want 16 to {MAX_GENERATED}")
    value = SecretBytes(os.urandom(size))
    try:
        return put_resource(database, keys, NewResource(path, value, replace=replace), by)
    finally:
        value.wipe()


def delete_resource(database: Database, path: ResourcePath, by: By) -> int:
    """Erase a resource; returns the version it had. Raises NotFound, ApprovalMissing as :func:`put_resource` does."""
    with database.write() as tx:
        version = secrets.retire(tx, path, now=by.now)
        need_approval(tx, path, CHANGE, by.now)
        disk_keys.forget_headers(tx, path)
        disk_keys.end(tx, path)
        append(tx, Event(by.now, RESOURCE_DELETE, str(path), "erased", by.actor, {"version": version}))
    return version


def add_reference(
    database: Database,
    document: bytes | Signed,
    by: By,
    signers: Signers | None = None,
    canary: Canary | None = None,
) -> ReferenceValue:
    """Register a reference-value file, or an envelope of one, whose digest follows from its recipe. With ``canary`` it
    is the next value, to follow one that is in force.

    Raises ReferenceMalformed, RequestMalformed when the digest does not follow, SignatureRefused, AlreadyExists, and
    NotFound where there is nothing to follow.
    """
    signed = document if isinstance(document, Signed) else unwrap(document, REFERENCE)
    value = reference_from_bytes(signed.data)
    signed_by = (signers or Signers()).check(signed, REFERENCE, f"reference {value.name!r}")
    check_recipe(value)
    stage = None if canary is None else Stage(canary)
    with database.write() as tx:
        if canary is not None:
            rules.get_reference(tx, canary.follows)
        rules.add_reference(
            tx,
            name=value.name,
            launch_digest=value.launch_digest,
            document=signed.data,
            now=by.now,
            actor=str(by.actor),
            stage=stage,
        )
        remember_set(tx, signed.data)
        body: dict[str, object] = {
            "document": hashlib.sha256(signed.data).digest(),
            "launch_digest": bytes(value.launch_digest),
            "signed_by": signed_by,
        }
        if stage is not None:
            body["stage"] = stage_json(stage)
        if signed.signatures:
            body["signature"] = blobs.put(tx, envelope(REFERENCE, signed, detached=True))
        outcome = "registered" if stage is None else "registered as next"
        append(tx, Event(by.now, REFERENCE_ADD, value.name, outcome, by.actor, body))
    return value


def retire_reference(database: Database, name: str, by: By) -> None:
    """Take a reference value out of force. Raises NotFound."""
    with database.write() as tx:
        entry = rules.retire_reference(tx, name, now=by.now, actor=str(by.actor))
        remember_set(tx)
        body = {"document": hashlib.sha256(entry.document).digest(), "launch_digest": entry.launch_digest}
        append(tx, Event(by.now, REFERENCE_RETIRE, name, "retired", by.actor, body))


def check_recipe(value: ReferenceValue) -> None:
    """A digest that does not follow from its own recipe is a mistake or a forgery; neither is registered."""
    if not isinstance(value.recipe, LaunchRecipe):  # a TD's registers were checked when the file was read
        return
    from ovmf.snp_launch import digest_from_recipe

    computed = digest_from_recipe(value.recipe)
    if computed != value.launch_digest:
        raise RequestMalformed(
            f"reference {value.name!r}: launch_digest {value.launch_digest.hex()} does not follow from its recipe, "
            f"which gives {computed.hex()}",
            code="reference.inconsistent",
        )
