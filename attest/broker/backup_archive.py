"""Taking a backup's archive apart: into an empty folder, every byte checked against the manifest, or not at all."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from attest.broker.backup import DATABASE, FOLDER, MANIFEST, SCHEMA
from attest.broker.errors import BackupRefused
from attest.keys.archive import ArchiveReader
from attest.keys.master import MasterKeys
from attest.store.schema import REVISION

_PART = re.compile(r"[^/\0]+")
_STEP = 1 << 20
_MOST_MANIFEST = 8 << 20


@dataclass(frozen=True, slots=True)
class Unpacked:
    """``settings`` is the name of the settings file, ``database`` the SQLite file beside what was unpacked."""

    settings: str
    database: Path
    made: str
    left_out: tuple[tuple[str, str], ...]


def unpack(archive: Path, keys: MasterKeys, folder: Path) -> Unpacked:
    """Into ``folder``, which is there and empty. Raises BackupRefused, SealBroken, KeyUnavailable."""
    try:
        with archive.open("rb") as file:
            reader = ArchiveReader(file, f"backup {archive}")
            _check_version(archive, reader.header)
            reader.open(keys)
            manifest = _extract(reader, archive, folder)
            reader.finish()
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as exc:
        raise BackupRefused(f"backup {archive}: not as this program writes it: {exc}") from None
    except OSError as exc:
        raise BackupRefused(f"backup {exc.filename or archive}: {exc.strerror or exc}") from None
    missed = tuple((str(entry["path"]), str(entry["why"])) for entry in manifest["left_out"])
    return Unpacked(str(manifest["settings"]), folder / _aside(), str(reader.header["made"]), missed)


def _check_version(archive: Path, header: dict[str, Any]) -> None:
    schema, revision = header.get("schema"), header.get("revision")
    if schema != SCHEMA:
        raise BackupRefused(f"backup {archive}: of kind {str(schema)[:60]!r}, want {SCHEMA!r}", code="backup.version")
    if revision != REVISION:
        raise BackupRefused(
            f"backup {archive}: its tables are of revision {str(revision)[:40]!r}, want {REVISION!r}",
            code="backup.version",
            hint=f"restore it with the program that made it, {str(header.get('program'))[:40]}; then attest db upgrade",
        )


def _extract(reader: ArchiveReader, archive: Path, folder: Path) -> dict[str, Any]:
    zipped = gzip.GzipFile(fileobj=cast("BinaryIO", reader), mode="rb")
    with zipped, tarfile.open(fileobj=zipped, mode="r|") as tar:
        manifest = _manifest(tar, archive)
        for wanted in manifest["files"]:
            entry = tar.next()
            if entry is None or entry.name != wanted["name"] or not entry.isreg():
                raise BackupRefused(f"backup {archive}: want {wanted['name']!r} next, got {entry and entry.name!r}")
            _file(tar, entry, wanted["sha256"], folder / _place(entry.name, archive))
        if (entry := tar.next()) is not None:
            raise BackupRefused(f"backup {archive}: {entry.name!r} is not in its manifest")
    return manifest


def _manifest(tar: tarfile.TarFile, archive: Path) -> dict[str, Any]:
    entry = tar.next()
    if entry is None or entry.name != MANIFEST or not entry.isreg() or entry.size > _MOST_MANIFEST:
        raise BackupRefused(f"backup {archive}: does not begin with its manifest")
    found: dict[str, Any] = json.loads(_content(tar, entry).read())
    return found


def _file(tar: tarfile.TarFile, entry: tarfile.TarInfo, digest: str, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    source, seen = _content(tar, entry), hashlib.sha256()
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        while part := source.read(_STEP):
            seen.update(part)
            file.write(part)
        file.flush()
        os.fchmod(file.fileno(), entry.mode & 0o777)
        os.fsync(file.fileno())
    if seen.hexdigest() != digest:
        raise BackupRefused(f"backup: {entry.name}: sha256 {seen.hexdigest()}, the manifest says {digest}")


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> Any:
    return tar.extractfile(entry)


def _place(name: str, archive: Path) -> str:
    """Where a member goes. Who has a master key could still have written a name that leads elsewhere."""
    if name == DATABASE:
        return _aside()
    inside = name.removeprefix(FOLDER)
    parts = inside.split("/")
    if inside == name or any(part in ("", ".", "..") or not _PART.fullmatch(part) for part in parts):
        raise BackupRefused(f"backup {archive}: {name[:80]!r} is no name of a file in a folder")
    return inside


def _aside() -> str:
    return ".restored-database"
