"""Replacing the key of an encrypted disk: the old key and the new one both open it until its guest says that it does.

    operator  start           a new key is made; it waits (*pending*) beside the one in force
    guest     release         is given both, and which headers its disk may have
    guest     report "will"   the header its disk will have: accepted beside the others          ``staged``
    guest     report "has"    it has it: the new key is in force, the old one erased             ``confirmed``
    guest     report "will"   the header without the old keyslot                                 ``staged``
    guest     report "only"   it has it, and nothing else is left: the only one accepted now     ``finished``
    operator  abort           before ``confirmed``: the new key is erased; headers that were staged stay accepted, and
                              the guest removes the keyslot that counts no more

Each step is one transaction with its audit record, and done twice changes nothing the second time. A report counts only
in a session that was given that very version; once a VM with a name took part, only that VM's reports count.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from attest.audit.canonical import rfc3339
from attest.audit.record import GUEST, KEY_ROTATION, LUKS_HEADER, Event
from attest.broker.conditions import CHANGE, need_approval
from attest.broker.errors import AccessDenied, RequestMalformed, RotationState
from attest.broker.guest_facts import facts_from_text
from attest.broker.operations import MAX_GENERATED, By, check_digest, seal_row
from attest.broker.trail import append
from attest.keys.master import MasterKeys
from attest.store import disk_keys, secrets
from attest.store.decisions import StoredDecision
from attest.store.disk_keys import StoredRotation
from attest.store.engine import Database
from attest.store.errors import NotFound
from attest.store.secrets import SealedRow
from policy.secret import SecretBytes
from policy.strictjson import strict_json
from policy.vocab import ResourcePath

MIN_KEY = 32
MAX_STAGED = 16
MAX_REPORT = 1024
WILL, HAS, ONLY = STEPS = ("will", "has", "only")


@dataclass(frozen=True, slots=True)
class HeaderReport:
    """What a guest says of its disk's header (a digest), which ``version`` of the key opens: that the disk *will* have
    it, *has* it, or has it and no keyslot but this key's (*only*).
    """

    version: int
    header: str
    step: str


@dataclass(frozen=True, slots=True)
class Offer:
    """What goes to a guest beside the key: the member ``cvm-disk`` without the next key, which is ``row``."""

    member: dict[str, Any]
    row: SealedRow | None = None


def parse_report(body: bytes) -> HeaderReport:
    """``{"version": …, "header": …, "step": "will|has|only"}``. Raises RequestMalformed."""
    found = strict_json(body, "disk-report", max_bytes=MAX_REPORT, error=RequestMalformed)
    if not isinstance(found, dict) or set(found) != {"version", "header", "step"}:
        raise RequestMalformed("disk-report: want an object with version, header, step")
    version, header, step = found["version"], found["header"], found["step"]
    if type(version) is not int or not 0 < version < 2**31 or step not in STEPS:
        raise RequestMalformed(f"disk-report: want version as a number from 1 and step as one of {', '.join(STEPS)}")
    if not isinstance(header, str):
        raise RequestMalformed("disk-report: header: want text")
    return HeaderReport(version, check_digest(header), step)


def start(database: Database, keys: MasterKeys, path: ResourcePath, size: int | None, by: By) -> int:
    """Make the key that shall replace the one in force; returns its version.

    ``size`` in bytes; ``None``: that of the present key, at least 32. Raises NotFound, RotationState, RequestMalformed.
    """
    with database.write() as tx:
        current = secrets.sealed(tx, path)
        if current is None:
            raise NotFound(f"resource {path}: not found")
        if current.source is not None:
            raise RequestMalformed(f"key {path}: it is kept elsewhere ({current.source}), and replaced there")
        _not_rotating(disk_keys.rotation(tx, path), path)
        if size is None:
            own = secrets.entry(tx, path)
            size = MIN_KEY if own is None else max(MIN_KEY, own.size)
        if not MIN_KEY <= size <= MAX_GENERATED:
            raise RequestMalformed(f"key {path}: {size} random bytes, want {MIN_KEY} to {MAX_GENERATED}")
        version = secrets.next_version(tx, path, replace=True)
        row = _new_key(keys, path, version, size, current.only_for)
        secrets.add_pending(tx, row, size=size, now=by.now, actor=str(by.actor))
        disk_keys.begin(tx, path, version, by.now, str(by.actor))
        body = {"version": version, "replaces": current.version, "size": size, "master_key_id": row.master_key_id}
        append(tx, Event(by.now, KEY_ROTATION, str(path), "started", by.actor, body))
    return version


def abort(database: Database, path: ResourcePath, by: By) -> bool:
    """Give the new key up; true where a guest has to remove a keyslot before it is over. Raises RotationState."""
    with database.write() as tx:
        rotation, waiting, current = disk_keys.rotation(tx, path), secrets.pending(tx, path), secrets.sealed(tx, path)
        if rotation is None or current is None:
            raise RotationState(f"key {path}: it is not being replaced")
        if waiting is None:
            raise RotationState(
                f"key {path}: version {rotation.version} is in force already, the disk was confirmed to open with it",
                hint="the old keyslot goes at the guest's next boot; attest key rotate starts another replacement then",
            )
        secrets.drop_pending(tx, path, now=by.now)
        staged = bool(disk_keys.headers(tx, path, waiting.version))
        if staged:
            disk_keys.move_headers(tx, path, waiting.version, current.version, by.now)
            disk_keys.change(tx, path, version=current.version, vm=rotation.vm)
        else:
            disk_keys.end(tx, path)
        body = {"version": waiting.version, "in_force": current.version, "to_remove": staged}
        append(tx, Event(by.now, KEY_ROTATION, str(path), "aborted", by.actor, body))
    return staged


def record_header(database: Database, path: ResourcePath, digest: str | None, by: By) -> int:
    """Say which header the disk of a key has (``None``: not known any more); returns the key's version.

    It also ends a replacement whose guest never came back to remove the old keyslot. Raises NotFound, RotationState
    while a key waits, ApprovalMissing where the key's conditions ask for approval of a change.
    """
    digest = digest and check_digest(digest)
    with database.write() as tx:
        current = secrets.sealed(tx, path)
        if current is None:
            raise NotFound(f"resource {path}: not found")
        if secrets.pending(tx, path) is not None:
            _not_rotating(disk_keys.rotation(tx, path), path)
        need_approval(tx, path, CHANGE, by.now)
        before = disk_keys.headers(tx, path, current.version)
        disk_keys.forget_headers(tx, path)
        disk_keys.end(tx, path)
        if digest is not None:
            disk_keys.add_header(tx, path, current.version, digest, by.now)
        body = {"version": current.version, "header": digest, "before": list(before)}
        outcome = "forgotten" if digest is None else "recorded"
        append(tx, Event(by.now, LUKS_HEADER, str(path), outcome, by.actor, body))
    return current.version


def offer(tx: Connection, path: str, row: SealedRow, decision: StoredDecision) -> Offer | None:
    """What a guest is told with the key ``row``; ``None`` for a resource that is no disk's as far as is known."""
    known, rotation = disk_keys.headers(tx, path, row.version), disk_keys.rotation(tx, path)
    if not known and rotation is None:
        return None
    member: dict[str, Any] = {"version": row.version, "headers": list(known), "finish": False}
    if rotation is None:
        return Offer(member)
    waiting = secrets.pending(tx, path)
    disk_keys.offer(tx, path, rotation.version, decision.id)
    if waiting is None:
        return Offer({**member, "finish": True})
    following = {"version": waiting.version, "headers": list(disk_keys.headers(tx, path, waiting.version))}
    return Offer({**member, "next": following}, waiting)


def report(tx: Connection, path: ResourcePath, said: HeaderReport, decision: StoredDecision, now: datetime) -> str:
    """Take a guest's report; what the state is then: ``staged``, ``confirmed``, ``finished``, or ``known``.

    The decision is one that the resource may be released under. Raises RotationState, AccessDenied.
    """
    rotation, current = disk_keys.rotation(tx, path), secrets.sealed(tx, path)
    if rotation is None or current is None:
        return _after_the_end(tx, path, said, current)
    _check_reporter(tx, path, rotation, decision)
    if rotation.vm is None:
        disk_keys.change(tx, path, version=rotation.version, vm=facts_from_text(decision.facts).vm or "")
    waiting = secrets.pending(tx, path)
    if waiting is None:
        outcome = _cleaning(tx, path, said, rotation, now)
    elif said.version == current.version:
        outcome = _first_header(tx, path, said, now)
    else:
        outcome = _replacing(tx, path, said, waiting, now)
    if outcome != "known":
        append(tx, _event(path, outcome, said, decision, now))
    return outcome


def rotation_json(tx: Connection, path: str, version: int) -> dict[str, Any]:
    """For showing: the headers the disk may have, and the replacement that has not ended."""
    rotation, waiting = disk_keys.rotation(tx, path), secrets.pending(tx, path)
    found: dict[str, Any] = {"headers": list(disk_keys.headers(tx, path, version)), "rotation": None}
    if rotation is not None:
        found["rotation"] = {
            "state": "old keyslot to be removed" if waiting is None else "waiting for the guest",
            "version": rotation.version,
            "started": rfc3339(rotation.started),
            "started_by": rotation.started_by,
            "vm": rotation.vm or None,
            "staged": [] if waiting is None else list(disk_keys.headers(tx, path, waiting.version)),
        }
    return found


def _replacing(tx: Connection, path: str, said: HeaderReport, waiting: SealedRow, now: datetime) -> str:
    if said.version != waiting.version:
        raise RotationState(f"key {path}: version {said.version} does not wait, {waiting.version} does")
    if said.step == WILL:
        return _stage(tx, path, said, now)
    if said.step != HAS:
        raise RotationState(f"key {path}: version {said.version} is not in force yet")
    _check_announced(tx, path, said)
    disk_keys.forget_headers(tx, path)
    disk_keys.add_header(tx, path, said.version, said.header, now)
    secrets.promote(tx, path, said.version, now=now)
    return "confirmed"


def _cleaning(tx: Connection, path: str, said: HeaderReport, rotation: StoredRotation, now: datetime) -> str:
    if said.version != rotation.version:
        raise RotationState(f"key {path}: version {said.version} is not in force, {rotation.version} is")
    if said.step == WILL:
        return _stage(tx, path, said, now)
    _check_announced(tx, path, said)
    if said.step == HAS:  # the confirmation once more, from a guest that lost our answer
        return "known"
    disk_keys.forget_headers(tx, path)
    disk_keys.add_header(tx, path, said.version, said.header, now)
    disk_keys.end(tx, path)
    return "finished"


def _check_announced(tx: Connection, path: str, said: HeaderReport) -> None:
    """A guest that dies before it writes leaves a header nobody else knows: so it says first what it will write."""
    if said.header not in disk_keys.headers(tx, path, said.version):
        raise RotationState(f"key {path}: nobody said before that the disk would have this header")


def _stage(tx: Connection, path: str, said: HeaderReport, now: datetime) -> str:
    if len(disk_keys.headers(tx, path, said.version)) >= MAX_STAGED:
        raise RotationState(f"key {path}: {MAX_STAGED} headers were announced and none confirmed")
    return "staged" if disk_keys.add_header(tx, path, said.version, said.header, now) else "known"


def _first_header(tx: Connection, path: str, said: HeaderReport, now: datetime) -> str:
    """The header from before anybody kept digests: taken over once, from a guest that was given the key."""
    known = disk_keys.headers(tx, path, said.version)
    if said.header in known:
        return "known"
    if known or said.step != HAS:
        raise RotationState(f"key {path}: another header is known of the disk")
    disk_keys.add_header(tx, path, said.version, said.header, now)
    return "taken over"


def _after_the_end(tx: Connection, path: str, said: HeaderReport, current: SealedRow | None) -> str:
    """The last report once more is no error."""
    same = current is not None and said.version == current.version
    if same and said.step == ONLY and disk_keys.headers(tx, path, said.version) == (said.header,):
        return "known"
    raise RotationState(f"key {path}: it is not being replaced")


def _check_reporter(tx: Connection, path: str, rotation: StoredRotation, decision: StoredDecision) -> None:
    vm = facts_from_text(decision.facts).vm or ""
    if not disk_keys.offered(tx, path, rotation.version, decision.id):
        reason = "rotation.not-offered"
    elif rotation.vm is not None and rotation.vm != vm:
        reason = "rotation.vm"
    else:
        return
    raise AccessDenied(
        f"access denied: key {path}: this session was not given that version, or another VM replaces the key"
        f" (decision {decision.id})",
        decision=decision.id,
        reasons=(reason,),
    )


def _not_rotating(rotation: StoredRotation | None, path: str) -> None:
    if rotation is not None:
        raise RotationState(
            f"key {path}: its replacement by version {rotation.version} has not ended",
            hint=f"attest key show {path}; attest key rotate --abort {path} gives a waiting key up",
        )


def _new_key(
    keys: MasterKeys, path: ResourcePath, version: int, size: int, only_for: tuple[str, ...] | None
) -> SealedRow:
    value = SecretBytes(os.urandom(size))
    try:
        return seal_row(keys, path, version, value, only_for)
    finally:
        value.wipe()


def _event(path: str, outcome: str, said: HeaderReport, decision: StoredDecision, now: datetime) -> Event:
    facts = facts_from_text(decision.facts)
    body = {
        "version": said.version,
        "header": said.header,
        "decision": decision.id,
        "chip": facts.machine,
        "measurement": facts.launch_digest,
        "vm": facts.vm,
        "tee_pubkey": json.loads(decision.tee_pubkey),
    }
    return Event(now, KEY_ROTATION, path, outcome, GUEST, body)
