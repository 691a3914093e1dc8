"""The keys tokens are signed with now, before and next: a folder of files that every process and replica reads, or
(:mod:`attest.broker.token_keys`) the database.

A file's name says from when its key signs: ``20260701T120000Z.key`` (UTC). The newest key whose time has come signs;
all keys in the folder are published and verify. So a rotation has three steps and no restart: a new file appears with
a time a little ahead (relying parties that keep the key set for a while learn the key before they meet it), it begins
to sign, and the old file goes once the last token it signed has expired. The name counts, not the file's own time,
because copies of the folder on other machines must agree. A single file is a folder of one key.

The folder is looked at once a second at most. A key that cannot be read leaves the ring as it was, and says so in the
log: half a rotation must not stop a service that has good keys.
"""

from __future__ import annotations

import logging
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Protocol, TypeVar

from attest.audit.canonical import rfc3339
from attest.keys.errors import KeyFileRefused
from attest.keys.files import sync_folder
from attest.keys.signing import ES256, Algorithm, SigningKey, load_signing_key, make_signing_key

LOOK_SECONDS = 1.0
MAX_KEYS = 16
_NAME = re.compile(r"\d{8}T\d{6}Z\.key")
_FORMAT = "%Y%m%dT%H%M%SZ.key"
_EVER = datetime(1970, 1, 1, tzinfo=UTC)
_log = logging.getLogger("attest.keys")


@dataclass(frozen=True, slots=True)
class RingKey:
    """One key and when it begins to sign."""

    key: SigningKey
    begins: datetime
    path: Path | None = None


def ring_json(entry: RingKey) -> dict[str, str | None]:
    """A key for listings, by the name of its file."""
    name = None if entry.path is None else entry.path.name
    return {"kid": entry.key.kid, "alg": entry.key.algorithm, "begins": rfc3339(entry.begins), "file": name}


class KeyRing(ABC):
    """Keys that tokens are signed with, oldest first, wherever they are kept."""

    @abstractmethod
    def entries(self) -> tuple[RingKey, ...]:
        """Every key with its time, oldest first; never none."""

    def signer(self, now: datetime) -> SigningKey:
        """The key that signs at ``now``; the oldest one while no key's time has come."""
        keys = self.entries()
        begun = [entry for entry in keys if entry.begins <= now]
        return (begun[-1] if begun else keys[0]).key

    def find(self, kid: str) -> SigningKey | None:
        """The key of that name, whatever its time."""
        return next((entry.key for entry in self.entries() if entry.key.kid == kid), None)

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The JSON Web Key Set: every key, the next one included."""
        return {"keys": [dict(entry.key.jwk) for entry in self.entries()]}


class SigningRing(KeyRing):
    """The keys of ``path`` (a folder, or one file), oldest first. Raises KeyFileRefused when it is made and unreadable.

    Safe to make before a fork. ``clock`` is a monotonic one, in seconds.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._looked = clock()
        self._signature = _signature(path)
        self._keys = load_ring(path)

    def entries(self) -> tuple[RingKey, ...]:
        """Every key with its time, oldest first."""
        now = self._clock()
        if now - self._looked < LOOK_SECONDS:
            return self._keys
        self._looked = now
        try:
            signature = _signature(self._path)
            if signature != self._signature:
                self._keys, self._signature = load_ring(self._path), signature
        except KeyFileRefused as exc:
            _log.error("token keys not read again, the known ones stay: %s", exc.message)
        return self._keys


def load_ring(path: Path) -> tuple[RingKey, ...]:
    """Every key, oldest first. Raises KeyFileRefused for a file that is none, no key, too many, or one key twice."""
    if not path.is_dir():
        return (RingKey(load_signing_key(path), _EVER, path),)
    found = tuple(RingKey(load_signing_key(file), begins_of(file), file) for file in _files(path))
    if not 0 < len(found) <= MAX_KEYS:
        raise KeyFileRefused(f"token keys {path}: {len(found)} keys, want 1 to {MAX_KEYS}")
    if len({entry.key.kid for entry in found}) != len(found):
        raise KeyFileRefused(f"token keys {path}: one key stands in two files")
    return found


def add_key(folder: Path, begins: datetime, algorithm: Algorithm = ES256) -> RingKey:
    """Make the key that signs from ``begins`` (whole seconds). Raises KeyFileRefused if it is not the newest then."""
    keys = load_ring(folder) if _files(folder) else ()
    begins = begins.astimezone(UTC).replace(microsecond=0)
    if keys and begins <= keys[-1].begins:
        raise KeyFileRefused(f"token keys {folder}: a key begins at {keys[-1].begins:%FT%TZ}, want a later time")
    if len(keys) >= MAX_KEYS:
        raise KeyFileRefused(f"token keys {folder}: {len(keys)} keys already, retire old ones first")
    path = folder / begins.strftime(_FORMAT)
    made = make_signing_key(path, algorithm)
    sync_folder(folder)
    return RingKey(made, begins, path)


def retire_keys(folder: Path, now: datetime, keep_for: timedelta) -> tuple[RingKey, ...]:
    """Erase keys whose successor has signed for longer than ``keep_for`` (a token's life); returns them."""
    old = outlived(load_ring(folder), now, keep_for)
    for entry in old:
        if entry.path is not None:
            entry.path.unlink()
    sync_folder(folder)
    return old


class _Begins(Protocol):
    @property
    def begins(self) -> datetime: ...


_Key = TypeVar("_Key", bound=_Begins)


def outlived(keys: Sequence[_Key], now: datetime, keep_for: timedelta) -> tuple[_Key, ...]:
    """Of ``keys``, oldest first, those that no token needs: the next one has signed for longer than ``keep_for``."""
    return tuple(entry for entry, after in pairwise(keys) if after.begins + keep_for < now)


def begins_of(path: Path) -> datetime:
    """When the key of this file begins to sign. Raises KeyFileRefused for another name."""
    try:
        return datetime.strptime(path.name, _FORMAT).replace(tzinfo=UTC)
    except ValueError:
        raise KeyFileRefused(f"token key {path}: its name is no time, want {_FORMAT}") from None


def ring_begins(path: Path) -> tuple[tuple[str, datetime], ...]:
    """File name and when its key begins to sign, oldest first, without reading a key; of a single file its own time.

    Raises KeyFileRefused.
    """
    if path.is_dir():
        found = tuple((file.name, begins_of(file)) for file in _files(path))
        if not found:
            raise KeyFileRefused(f"token keys {path}: no key, want at least one")
        return found
    try:
        return ((path.name, datetime.fromtimestamp(path.stat().st_mtime, UTC)),)
    except OSError as exc:
        raise KeyFileRefused(f"token key {path}: {exc.strerror}") from None


def _files(folder: Path) -> Sequence[Path]:
    """Files of a ring's names, oldest first; others are passed over, as a copy in progress has another name."""
    try:
        return sorted(entry for entry in folder.iterdir() if _NAME.fullmatch(entry.name))
    except OSError as exc:
        raise KeyFileRefused(f"token keys {folder}: {exc.strerror}") from None


def _signature(path: Path) -> tuple[tuple[str, int, int], ...]:
    """What changes when a key comes, goes or is replaced."""
    try:
        files = _files(path) if path.is_dir() else [path]
        return tuple((file.name, (status := file.stat()).st_ino, status.st_mtime_ns) for file in files)
    except OSError as exc:
        raise KeyFileRefused(f"token keys {path}: {exc.strerror}") from None
