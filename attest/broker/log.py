"""The audit log as others see it: signed checkpoints, and proofs that need nothing but the log's public key.

A checkpoint is signed for what is in the database *and* follows from what was signed before. What was signed last is
also kept in a file outside the database, so that a database restored from an older backup is noticed: it would let the
log tell two stories, and every new checkpoint is refused until a person has looked.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection

from attest.audit.checkpoint import Checkpoint, parse_checkpoint
from attest.audit.errors import AuditBroken
from attest.audit.merkle import verify_consistency
from attest.audit.note import Note, parse_note, sign, verify_note
from attest.broker.errors import ServiceMisconfigured
from attest.keys.errors import KeyFileRefused
from attest.keys.files import replace_file
from attest.keys.log_key import LogKey
from attest.store import checkpoints, tree
from attest.store.checkpoints import StoredCheckpoint
from attest.store.engine import Database

_SEEN_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class LogSigner:
    """The log's key, and the file that remembers what was signed last."""

    key: LogKey
    seen: Path


def checkpoint(database: Database, signer: LogSigner, now: datetime) -> Note:
    """The signed checkpoint of the log as it is now; the newest one again where nothing was appended.

    Raises :class:`AuditBroken` where the records do not extend what was signed before: a database that was restored,
    or changed.
    """
    with database.write() as tx:
        size, last = checkpoints.size_of_log(tx), checkpoints.newest(tx)
        check_follows(tx, size, _seen(signer), "the file of what was signed last")
        if last is not None:
            check_follows(tx, size, Checkpoint(signer.key.origin, last.size, last.root), "the newest checkpoint")
        if last is not None and last.size == size:
            return parse_note(last.note)
        point = Checkpoint(signer.key.origin, size, tree.root(tx, size))
        note = Note(point.text, (sign(point.text, signer.key.origin, signer.key.private),))
        checkpoints.add(tx, StoredCheckpoint(size, point.root, now, note.encode()))
        _remember(signer.seen, note)  # before the commit: a checkpoint that is out can only be one that is remembered
    return note


def follow(database: Database, signer: LogSigner) -> None:
    """Note what another replica signed. Raises :class:`AuditBroken` as :func:`checkpoint` does."""
    with database.read() as tx:
        size, last = checkpoints.size_of_log(tx), checkpoints.newest(tx)
        seen = _seen(signer)
        check_follows(tx, size, seen, "the file of what was signed last")
        if last is None or (seen is not None and seen.size >= last.size):
            return
        point = checkpoint_in(last.note, signer)
        check_follows(tx, size, point, "the newest checkpoint")
    _remember(signer.seen, parse_note(last.note))


def check_follows(tx: Connection, size: int, before: Checkpoint | None, what: str) -> None:
    """Raise :class:`AuditBroken` unless the log of ``size`` records extends ``before``, which ``what`` names."""
    if before is None or before.size == 0:
        return
    if size < before.size:
        raise AuditBroken(
            f"audit log: {what} has {before.size} records, the database {size}",
            hint="the database was restored from an older backup: see the operator's guide, restoring",
        )
    path = tree.consistency(tx, before.size, size)
    verify_consistency(before.size, size, path, before.root, tree.root(tx, size))


def check_against(database: Database, seen: Path) -> None:
    """Raise :class:`AuditBroken` unless the log extends what the file says.

    Whose word the file is remains unchecked: the log's key is not at hand here.
    """
    data = _read(seen)
    if data is None:
        return
    point, _ = parse_checkpoint(data)
    with database.read() as tx:
        check_follows(tx, checkpoints.size_of_log(tx), point, "the file of what was signed last")


def _seen(signer: LogSigner) -> Checkpoint | None:
    data = _read(signer.seen)
    return None if data is None else checkpoint_in(data, signer)


def _read(seen: Path) -> bytes | None:
    try:
        return seen.read_bytes()[: _SEEN_MAX + 1]
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise ServiceMisconfigured(f"audit log: {seen}: {exc.strerror}") from None


def checkpoint_in(data: bytes, signer: LogSigner) -> Checkpoint:
    """What a ``log.seen`` says. Raises :class:`AuditBroken` where this log's key did not sign it."""
    point, note = parse_checkpoint(data)
    if point.origin != signer.key.origin or not verify_note(note, [signer.key.verifier]):
        raise AuditBroken(f"audit log: {signer.seen} is of another log ({point.origin[:80]})")
    return point


def _remember(path: Path, note: Note) -> None:
    """Whole or not at all, on stable storage, its name included."""
    try:
        replace_file(path, note.encode())
    except KeyFileRefused as exc:
        raise ServiceMisconfigured(f"audit log: {exc.message}") from None
