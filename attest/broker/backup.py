"""Backing a service up: its database, settings, policy, keys and collateral in one archive under the master key.

1. The record that a backup is made is durable: what leaves the machine is known to have left it.
2. Files are read first and the database after them, so the log in it is never older than the ``log.seen`` beside it.
3. All of it is encrypted under a data key that the newest master key wraps. The master key itself is never in it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, cast

from attest.audit.record import BACKUP, Event
from attest.broker.backup_contents import LeftOut, Taken, contents
from attest.broker.errors import BackupRefused
from attest.broker.opening import open_database
from attest.broker.operations import By
from attest.broker.trail import append
from attest.keys.archive import ArchiveWriter
from attest.keys.files import sync_folder
from attest.keys.master import MasterKeys, load_master_keys
from attest.settings import Settings
from attest.store import snapshot
from attest.store.checkpoints import size_of_log
from attest.store.engine import Database
from attest.store.schema import REVISION

SCHEMA = "attest.backup/1"
MANIFEST, DATABASE, FOLDER = "manifest.json", "database", "folder/"


@dataclass(frozen=True, slots=True)
class BackupMade:
    """``size`` in bytes, ``records`` of the audit log that are in it."""

    path: Path
    size: int
    records: int
    files: tuple[str, ...]
    left_out: tuple[LeftOut, ...]


def make_backup(settings: Settings, config: Path, target: Path, by: By) -> BackupMade:
    """Write the archive ``target``, a new file of mode 0600; ``config`` is the file the settings were read from.

    Raises BackupRefused, StoreUnavailable, KeyFileRefused. What was written of a backup that failed is removed.
    """
    database, keys = open_database(settings), load_master_keys(settings.master_key_file)
    with database.write() as tx:
        append(tx, Event(by.now, BACKUP, target.name[:200], "begun", by.actor, {"master_key_id": keys.newest}))
    files, left_out = contents(settings, config)
    beside = target.with_name(f".{target.name}.database")
    try:
        snapshot.take(database, beside)
        made = _write(target, beside, keys, (files, left_out), config.name, by)
    finally:
        beside.unlink(missing_ok=True)
        database.close()
    return made


def _write(
    target: Path,
    beside: Path,
    keys: MasterKeys,
    found: tuple[tuple[Taken, ...], tuple[LeftOut, ...]],
    config: str,
    by: By,
) -> BackupMade:
    files, left_out = found
    records = _records(beside)
    header = {
        "schema": SCHEMA,
        "made": by.now.isoformat(timespec="seconds"),
        "program": version("cvm"),
        "revision": REVISION,
        "records": records,
    }
    try:
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise BackupRefused(f"backup: {target}: {exc.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as file, beside.open("rb") as rows:
            writer = ArchiveWriter(file, keys, header)
            _pack(writer, _manifest(files, left_out, rows, config), files, rows)
            writer.close()
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
    except BaseException as exc:
        target.unlink(missing_ok=True)
        if isinstance(exc, OSError):
            raise BackupRefused(f"backup: {target}: {exc.strerror}") from None
        raise
    sync_folder(target.absolute().parent)
    return BackupMade(target, size, records, tuple(entry.name for entry in files), left_out)


def _records(beside: Path) -> int:
    copy = Database(beside)
    with copy.read() as tx:
        found = size_of_log(tx)
    copy.close()
    return found


def _manifest(files: tuple[Taken, ...], left_out: tuple[LeftOut, ...], rows: BinaryIO, config: str) -> bytes:
    digest = hashlib.file_digest(rows, "sha256").hexdigest()  # type: ignore[arg-type]  # a file opened for reading
    size = rows.seek(0, os.SEEK_END)
    rows.seek(0)
    entries: list[dict[str, Any]] = [
        {"name": FOLDER + entry.name, "size": len(entry.data), "sha256": hashlib.sha256(entry.data).hexdigest()}
        for entry in files
    ]
    entries.append({"name": DATABASE, "size": size, "sha256": digest})
    missed = [{"path": entry.path, "why": entry.why} for entry in left_out]
    return json.dumps({"settings": config, "files": entries, "left_out": missed}).encode()


def _pack(writer: ArchiveWriter, manifest: bytes, files: tuple[Taken, ...], rows: BinaryIO) -> None:
    zipped = gzip.GzipFile(fileobj=cast("BinaryIO", writer), mode="wb", compresslevel=1, mtime=0)
    with zipped, tarfile.open(fileobj=zipped, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, MANIFEST, 0o600, len(manifest), io.BytesIO(manifest))
        for entry in files:
            _add(tar, FOLDER + entry.name, entry.mode, len(entry.data), io.BytesIO(entry.data))
        size = rows.seek(0, os.SEEK_END)
        rows.seek(0)
        _add(tar, DATABASE, 0o600, size, rows)


def _add(tar: tarfile.TarFile, name: str, mode: int, size: int, data: BinaryIO) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.size = mode, size
    tar.addfile(entry, data)
