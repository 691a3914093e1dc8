"""The disk cache: verified collateral by name, bytes by digest, shared by any number of processes.

    objects/<sha256>     one certificate, list or signed document; the name says what the bytes must be
    items/<name>         JSON: which objects a thing consists of, when it was fetched, from where
    failures/<name>      JSON: why it could not be fetched, and until when not to ask again
    seen/<name>.<root>   the highest number and the latest issue seen of a thing that must never go back
    locks/…              held by whoever fetches a thing (one file for each; 256 for all of a kind that has many)
    pace…, pace….lock    how fast a service may be asked

Nothing in it is trusted: what is read is checked like an answer from the network, and what does not fit (damaged by a
disk, altered by hand, verified under other roots) counts as absent and is fetched again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from attest.collateral.clock import Clock
from attest.collateral.errors import CacheUnusable, CollateralUnavailable
from attest.collateral.files import locked, make_folder, read_bounded, replace
from policy.errors import MalformedInput
from policy.strictjson import strict_json

SCHEMA, FAILURE_SCHEMA = "attest.collateral.item/1", "attest.collateral.failure/1"
MAX_FAILURE = timedelta(hours=1)
_MAX_JSON = 4096
_MAX_PARTS = 4
_MAX_OBJECT = 4 << 20
_MANY_FAILURES = 64
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Named(Protocol):
    """A thing that can be kept; ``str()`` says in words what it is."""

    @property
    def name(self) -> str:
        """A file name that no other thing has."""
        ...

    @property
    def lock_name(self) -> str:
        """A file name that few other things have, or none."""
        ...


def shared_lock_name(kind: str, name: str) -> str:
    """One of 256 for all things of a kind that strangers can think of many of."""
    return f"{kind}-{hashlib.sha256(name.encode()).hexdigest()[:2]}"


@dataclass(frozen=True, slots=True)
class Entry:
    """What the cache holds under a name: objects whose digests are right, when they were fetched, from where."""

    wanted: Named
    parts: tuple[bytes, ...]
    fetched: datetime
    source: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A fetch that failed and is not to be repeated before ``until``."""

    wanted: Named
    code: str
    message: str
    until: datetime

    def error(self, now: datetime) -> CollateralUnavailable:
        """The same failure again, said to be remembered."""
        seconds = max(0.0, (self.until - now).total_seconds())
        text = f"{self.message} (remembered; asked again in {seconds:.0f} s)"
        return CollateralUnavailable(text, code=self.code, retry_after=seconds)


class Cache:
    """One folder, made when first used."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder, self._clock = folder, clock

    def prepare(self) -> None:
        """Make the folders. Raises CacheUnusable."""
        for name in ("", "objects", "items", "failures", "seen", "locks"):
            make_folder(self.folder / name)

    def lock(self, wanted: Named, within: float) -> AbstractContextManager[None]:
        """Held by the one that fetches ``wanted``; waits at most ``within`` seconds."""
        return locked(self.folder / "locks" / wanted.lock_name, self._clock, within)

    def read(self, wanted: Named) -> Entry | None:
        """The entry if it is whole: its file parses and every object has the digest it is named by."""
        data = read_bounded(self.folder / "items" / wanted.name, _MAX_JSON)
        try:
            value = strict_json(data, "cache", max_bytes=_MAX_JSON)
            digests, fetched = value["objects"], _time(value["fetched"])
            source = str(value["source"])
            if value["schema"] != SCHEMA or not 1 <= len(digests) <= _MAX_PARTS:
                return None
            parts = tuple(self._object(digest) for digest in digests)
        except (MalformedInput, KeyError, TypeError, ValueError):
            return None
        return Entry(wanted, parts, fetched, source)

    def stamp(self, wanted: Named) -> tuple[int, int, int] | None:
        """Changes when the entry does; ``None`` where there is none."""
        with suppress(OSError):
            status = (self.folder / "items" / wanted.name).stat()
            return status.st_mtime_ns, status.st_ino, status.st_size
        return None

    def _object(self, digest: str) -> bytes:
        if not _SHA256.fullmatch(digest):
            raise ValueError(digest)
        data = read_bounded(self.folder / "objects" / digest, _MAX_OBJECT)
        if hashlib.sha256(data).hexdigest() != digest:
            raise ValueError(digest)
        return data

    def write(self, entry: Entry) -> None:
        """Store an entry: objects first, then the file that names them. Raises CacheUnusable."""
        self.prepare()
        digests = [hashlib.sha256(part).hexdigest() for part in entry.parts]
        for digest, part in zip(digests, entry.parts, strict=True):
            replace(self.folder / "objects" / digest, part)
        value = {
            "schema": SCHEMA, "objects": digests, "fetched": entry.fetched.isoformat(), "source": entry.source,
        }  # fmt: skip
        replace(self.folder / "items" / entry.wanted.name, _json(value))
        with suppress(OSError):
            (self.folder / "failures" / entry.wanted.name).unlink()

    def failure(self, wanted: Named, now: datetime) -> Failure | None:
        """A failure that still counts at ``now``. One that speaks of a far future is damage."""
        data = read_bounded(self.folder / "failures" / wanted.name, _MAX_JSON)
        try:
            value = strict_json(data, "cache", max_bytes=_MAX_JSON)
            until, code, message = _time(value["until"]), str(value["code"]), str(value["message"])
            if value["schema"] != FAILURE_SCHEMA or not now < until <= now + MAX_FAILURE:
                return None
        except (MalformedInput, KeyError, TypeError, ValueError):
            return None
        return Failure(wanted, code, message, until)

    def remember_failure(self, failure: Failure) -> None:
        """Keep it, and forget old ones; a cache that cannot be written forgets it."""
        value = {
            "schema": FAILURE_SCHEMA, "code": failure.code, "message": failure.message[:1000],
            "until": failure.until.isoformat(),
        }  # fmt: skip
        self._forget_failures()
        with suppress(CacheUnusable):
            replace(self.folder / "failures" / failure.wanted.name, _json(value), durable=False)

    def _forget_failures(self) -> None:
        """Files that no longer count, once there are many."""
        with suppress(OSError):
            files = list((self.folder / "failures").iterdir())
            for path in files if len(files) > _MANY_FAILURES else ():
                if path.stat().st_mtime < self._clock.wall() - MAX_FAILURE.total_seconds():
                    path.unlink(missing_ok=True)

    def names(self, kind: str = "items") -> Iterator[str]:
        """Everything there is a file for, whole or not; ``kind`` is ``items`` or ``failures``."""
        try:
            yield from sorted(path.name for path in (self.folder / kind).iterdir())
        except FileNotFoundError:
            return
        except OSError as exc:
            raise CacheUnusable(f"collateral cache {self.folder}: {exc.strerror}") from None


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=1).encode() + b"\n"


def _time(text: Any) -> datetime:
    value = datetime.fromisoformat(text)
    if value.tzinfo is None:
        raise ValueError(text)
    return value
