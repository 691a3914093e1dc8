"""The reading end of a VM's events, for ``cvm events``: a launch, which writes them, does without."""

from __future__ import annotations

import os

from launcher.core.names import EVENTS
from launcher.io.event_log import SCHEMA
from launcher.io.tail import Tail
from policy import plain_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


class EventReader:
    """The reading end: what is there, then what is added. Lines that are none of ours are passed over."""

    def __init__(self, folder: str) -> None:
        self._path = f"{folder}/{EVENTS}"
        self._tail = Tail(self._path)
        self._inode = 0
        self._rest = b""
        self._older = True

    def read(self) -> Iterator[dict[str, Any]]:
        """New events, in order."""
        if self._older:
            self._older = False
            yield from self._parsed(_all_of(Tail(f"{self._path}.1")))
            self._rest = b""
        yield from self._parsed(self._moved_aside())
        yield from self._parsed(_all_of(self._tail))

    def _moved_aside(self) -> bytes:
        """The rest of a file that was renamed since the last call."""
        before, self._inode = self._inode, _inode(self._path)
        if before in (0, self._inode):
            return b""
        rest = _all_of(Tail(f"{self._path}.1", self._tail.offset))
        self._tail = Tail(self._path)
        return rest

    def _parsed(self, data: bytes) -> Iterator[dict[str, Any]]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            event = _event(line)
            if event is not None:
                yield event


def _inode(path: str) -> int:
    """0: there is none, which happens between moving aside and the next event."""
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return 0


def _all_of(tail: Tail) -> bytes:
    return b"".join(iter(tail.read, b""))


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event = plain_json.loads(line)
    except ValueError:
        return None
    texts = ("time", "vm", "source", "event")
    if not isinstance(event, dict) or event.get("schema") != SCHEMA or not isinstance(event.get("detail"), dict):
        return None
    return event if all(isinstance(event.get(name), str) for name in texts) else None
