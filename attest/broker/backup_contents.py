"""What goes into a backup: of the settings' folder what the settings name, and public files beside it.

What the settings name and lies outside their folder is not taken, nor are private keys that the service does not use
(of its authorities, say), nor PINs. All of it is listed, in the archive and to who makes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from attest.broker.errors import BackupRefused
from attest.files import read_at_most
from attest.keys.client_crl import ClientAuthority
from attest.keys.statement import signature_beside
from attest.settings import Settings

MAX_FILE = 64 << 20
_PUBLIC = (".pem", ".pub")
_MASTER_KEY = "a master key is never in a backup: keep a copy of it apart, nothing opens without it"
_OUTSIDE = "outside the settings' folder"
_UNNAMED = "the settings do not name it"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that is not in the archive, and why."""

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Taken:
    """A file of the settings' folder as it was read: its name there, its mode, its bytes."""

    name: str
    mode: int
    data: bytes


def contents(settings: Settings, config: Path) -> tuple[tuple[Taken, ...], tuple[LeftOut, ...]]:
    """What of the settings' folder goes into a backup, and what does not. Raises BackupRefused."""
    folder = config.absolute().parent
    named = [config.absolute(), *_named(settings)]
    inside = [path for path in named if path.is_relative_to(folder) and ".." not in path.parts]
    others = [path for path in sorted(folder.iterdir()) if path.is_file() and path.suffix in _PUBLIC]
    inside += [path for path in others if path not in inside and b"PRIVATE KEY" not in _read(path)]
    taken = {name: path for path in inside for name, path in _files(path, folder)}
    missed = [LeftOut(str(path), _OUTSIDE) for path in dict.fromkeys(named) if path not in inside]
    own = {settings.master_key_file.absolute(), *taken.values(), *_database_files(settings)}
    rest = [path for path in sorted(folder.iterdir()) if path.is_file() and path.absolute() not in own]
    missed += [LeftOut(str(path), _UNNAMED) for path in rest]
    missed.append(LeftOut(str(settings.master_key_file), _MASTER_KEY))
    return tuple(_take(name, path) for name, path in sorted(taken.items())), tuple(missed)


def _named(settings: Settings) -> Iterator[Path]:
    """Every file and folder the settings name, but for master key and database."""
    server, dashboard, audit, policy = settings.server, settings.dashboard, settings.audit, settings.policy
    found: list[Path | None] = [server.certificate, server.key, *_clients(server.operators, server.auditors)]
    found += [settings.token_key_file, settings.answer_key_file, policy.file, *policy.signers]
    found += [settings.collateral.pcs.tls.ca, None if server.oidc is None else server.oidc.ca]
    if dashboard is not None:
        found += [dashboard.certificate, dashboard.key, *_clients(dashboard.auditors)]
    if audit is not None:
        found.append(audit.key_file)
    yield from (path.absolute() for path in found if path is not None)
    perhaps = [signature_beside(policy.file), settings.collateral.folder, settings.collateral.cache]
    perhaps.append(None if audit is None else audit.seen_file)
    yield from (path.absolute() for path in perhaps if path is not None and path.exists())


def _clients(*authorities: ClientAuthority | None) -> Iterator[Path | None]:
    for one in authorities:
        if one is not None:
            yield from (one.ca, one.crl)


def _files(path: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Name in the folder and path; of a folder every regular file below it. Links inside a folder are not followed."""
    if not path.is_dir():
        yield path.relative_to(folder).as_posix(), path
        return
    for root, _, names in os.walk(path):
        for name in names:
            found = Path(root) / name
            if found.is_file() and not found.is_symlink():
                yield found.relative_to(folder).as_posix(), found


def _database_files(settings: Settings) -> tuple[Path, ...]:
    if not isinstance(settings.database, Path):
        return ()
    path = settings.database.absolute()
    return tuple(path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm"))


def _take(name: str, path: Path) -> Taken:
    data = _read(path)
    return Taken(name, path.stat().st_mode & 0o777, data)


def _read(path: Path) -> bytes:
    try:
        return read_at_most(path, MAX_FILE)
    except OSError as exc:
        raise BackupRefused(f"backup: {path}: {exc.strerror}") from None
