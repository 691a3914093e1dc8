"""Restoring a backup into an empty place: whole or not at all.

1. The archive was made by a program of this one's revision of the tables and opens under the master key that is given;
   every file has the digest the manifest says. Nothing is in place yet.
2. The log in it extends what was signed last (``log.seen`` as rescued from the lost machine). Where it does not, or
   nothing is at hand to compare with, records are or may be lost: releases that count towards ``once``, revocations,
   retired reference values. Somebody must say that they accept this, and why.
3. One transaction fills the database, writes the record of the restore, forgets open sessions, makes every decision
   from before stale, so that each guest attests again, and ends every approval: it may have been used since.
4. The folder appears under its name.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from attest.audit.checkpoint import Checkpoint
from attest.audit.errors import AuditBroken, NoteMalformed, ProofInvalid
from attest.audit.record import RESTORE, Event
from attest.broker.backup_archive import Unpacked, unpack
from attest.broker.errors import BackupRefused
from attest.broker.log import LogSigner, check_follows, checkpoint_in
from attest.broker.operations import By
from attest.broker.trail import append
from attest.keys.files import replace_file, sync_folder
from attest.keys.log_key import load_log_key
from attest.keys.master import load_master_keys
from attest.settings import Settings, load_settings
from attest.settings_edit import Values, with_values
from attest.store import grants, rules, snapshot
from attest.store.checkpoints import size_of_log
from attest.store.engine import Database


@dataclass(frozen=True, slots=True)
class Wanted:
    """``target`` is a folder that is not there, or empty. ``database``: elsewhere than the settings say, a PostgreSQL
    address or a file. ``seen`` is the newest ``log.seen``; ``accept_rollback`` the reason why restoring an older log,
    or one that cannot be compared, is right.
    """

    archive: Path
    master_key: Path
    target: Path
    database: str | None = None
    seen: bytes | None = None
    accept_rollback: str | None = None


@dataclass(frozen=True, slots=True)
class Restored:
    """``records`` are in the log now; ``lost`` is how many are known to be missing, ``None`` if nobody can say."""

    settings: Settings
    config: Path
    records: int
    lost: int | None
    left_out: tuple[tuple[str, str], ...]


def restore(wanted: Wanted, by: By) -> Restored:
    """Raises BackupRefused, SealBroken, StoreUnsupported, AuditBroken, KeyFileRefused; nothing is left then."""
    with _staged(wanted.target) as staging:
        found = unpack(wanted.archive, load_master_keys(wanted.master_key), staging)
        config = staging / found.settings
        _place_database(config, wanted.database)
        settings = _load(config, wanted.master_key)
        _make_folders(settings, staging)
        lost, records = _fill(wanted, found, settings, by)
        found.database.unlink()
        _move(staging, wanted.target)
    config = wanted.target / found.settings
    return Restored(_load(config, wanted.master_key), config, records, lost, found.left_out)


def _make_folders(settings: Settings, staging: Path) -> None:
    """An archive holds files only; a folder of collateral that was empty is still one."""
    folder = settings.collateral.folder
    if folder is not None and folder.is_relative_to(staging):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """A folder beside the target, gone again unless it was moved."""
    try:
        if target.exists() and any(target.iterdir()):
            raise BackupRefused(f"restore: {target}: not empty, want a new folder")
        target.absolute().parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.absolute().parent))
    except OSError as exc:
        raise BackupRefused(f"restore: {target}: {exc.strerror}") from None
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _move(staging: Path, target: Path) -> None:
    try:
        os.rename(staging, target)
    except OSError as exc:
        raise BackupRefused(f"restore: {target}: {exc.strerror}") from None
    sync_folder(target.absolute().parent)


def _place_database(config: Path, database: str | None) -> None:
    if database is None:
        return
    keys = ("url", "path") if database.startswith("postgresql://") else ("path", "url")
    edit_settings(config, {"store": {keys[0]: database, keys[1]: None}})


def edit_settings(config: Path, changes: Mapping[str, Values]) -> None:
    """Change values of a restored settings file. Raises BackupRefused where it has no such table."""
    text = config.read_text()
    try:
        for table, values in changes.items():
            text = with_values(text, table, values)
    except ValueError as exc:
        raise BackupRefused(f"restore: {config.name}: {exc}") from None
    replace_file(config, text.encode(), mode=config.stat().st_mode & 0o777)


def _load(config: Path, master_key: Path) -> Settings:
    """The settings as they will be, but with the master key that was given: the real one is put in place later."""
    beside = config.with_name(f".{config.name}.checked")
    shutil.copyfile(config, beside)
    try:
        key = str(master_key.absolute())
        edit_settings(beside, {"keys": {"master_key_file": key, "master_key_credential": None}})
        return load_settings(beside)
    finally:
        beside.unlink()


def _fill(wanted: Wanted, found: Unpacked, settings: Settings, by: By) -> tuple[int | None, int]:
    """The database, with the record of what is done. Returns how many records are known lost, and the log's size."""
    database = Database(settings.database)
    result: list[tuple[int | None, int]] = []

    def then(tx: Connection) -> None:
        size = size_of_log(tx)
        lost, why = _compare(tx, size, wanted.seen, settings)
        if why is not None and not wanted.accept_rollback:
            raise BackupRefused(f"restore: {why}", code="backup.rollback", hint=_ROLLBACK)
        _record(tx, wanted, found, (size, lost, why), by)
        rules.next_generation(tx)
        snapshot.end_sessions(tx)
        grants.end_all(tx)
        result.append((lost, size + 1))

    snapshot.put(found.database, database, then)
    database.close()
    if wanted.seen is not None and settings.audit is not None and result[0][0] == 0:
        replace_file(settings.audit.seen_file, wanted.seen)
    return result[0]


_ROLLBACK = "find the newest log.seen (--seen FILE), or say --accept-rollback with --reason TEXT; it goes on record"


def _compare(tx: Connection, size: int, seen: bytes | None, settings: Settings) -> tuple[int | None, str | None]:
    """How many records are known to be missing, and what is wrong with restoring this log; ``None``: nothing."""
    if settings.audit is None or seen is None:
        return None, "nothing says what was signed last, so records after the backup may be lost"
    audit = settings.audit
    signer = LogSigner(load_log_key(audit.key_file, audit.origin), audit.seen_file)
    try:
        point = checkpoint_in(seen, signer)
    except NoteMalformed as exc:
        raise AuditBroken(f"restore: --seen: {exc.message}") from None
    return _lost(tx, size, point)


def _lost(tx: Connection, size: int, point: Checkpoint) -> tuple[int | None, str | None]:
    if size < point.size:
        return point.size - size, f"the backup's log has {size} records, {point.size} were signed"
    try:
        check_follows(tx, size, point, "what was signed last")
    except (AuditBroken, ProofInvalid):
        return None, f"the backup's log is not the one whose {point.size} records were signed last"
    return 0, None


def _record(
    tx: Connection, wanted: Wanted, found: Unpacked, outcome: tuple[int, int | None, str | None], by: By
) -> None:
    size, lost, why = outcome
    with wanted.archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    body = {
        "archive": digest,
        "made": found.made,
        "records": size,
        "lost": lost,
        "rollback": why,
        "reason": wanted.accept_rollback,
    }
    append(tx, Event(by.now, RESTORE, wanted.archive.name[:200], "restored", by.actor, body))
