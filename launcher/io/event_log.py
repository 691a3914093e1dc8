"""A VM's events: JSON lines that its launcher appends to, and ``cvm events`` reads. They stay from launch to launch.

A host's convenience, no evidence: the launch ledger is chained, this is not. It is bounded twice: a launch writes a
limited number of lines that its guest can cause, and a file that has grown is moved aside once.
"""

from __future__ import annotations

import os

from launcher.core.names import EVENTS
from launcher.io import clock
from launcher.io.tail import Tail
from policy import plain_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

SCHEMA = "cvm.event/1"
LIMIT = 4 << 20
MAX_DETAIL = 4096
"""Characters of JSON; what is longer is left out, and its length told."""
MAX_CAUSED = 1000
"""Events of one launch that the guest can cause at will."""
_CAUSED = ("guest", "console", "qemu")


class EventLog:
    """The writing end. A disk that is full costs events, not the VM: how many is told when there is room again."""

    __slots__ = ("_caused", "_lost", "_name", "_path")

    def __init__(self, folder: str, name: str) -> None:
        self._path = f"{folder}/{EVENTS}"
        self._name = name
        self._caused = 0
        self._lost = 0

    def renew(self) -> None:
        """Another launch begins."""
        self._caused = 0

    def put(self, source: str, event: str, detail: Mapping[str, object], seconds: float | None = None) -> None:
        """Append one. ``source``: launcher, operator, qemu, guest or console; ``seconds`` since QEMU was started."""
        if source in _CAUSED:
            self._caused += 1
            if self._caused > MAX_CAUSED:
                if self._caused > MAX_CAUSED + 1:
                    return
                source, event, detail = "launcher", "events-dropped", {"after": MAX_CAUSED}
        if self._lost:
            lost, self._lost = self._lost, 0
            self._write("launcher", "events-lost", {"count": lost}, None)
        self._write(source, event, detail, seconds)

    def _write(self, source: str, event: str, detail: Mapping[str, object], seconds: float | None) -> None:
        text = plain_json.dumps(detail)
        line = {
            "schema": SCHEMA,
            "time": clock.now_in_milliseconds(),
            "vm": self._name,
            "source": source,
            "event": event[:80],
            "seconds": None if seconds is None else round(seconds, 3),
            "detail": detail if len(text) <= MAX_DETAIL else {"left_out": len(text)},
        }
        try:
            self._append(plain_json.dumps(line).encode("ascii") + b"\n")
        except OSError:
            self._lost += 1

    def _append(self, line: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if os.write(descriptor, line) != len(line):
                os.ftruncate(descriptor, size)
                raise OSError("no room for a whole line")
        finally:
            os.close(descriptor)
        if size + len(line) > LIMIT:
            os.replace(self._path, f"{self._path}.1")


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
