"""A VM's events: JSON lines that its launcher appends to (`launcher.io.event_reader` reads them). They stay from launch
to launch.

A host's convenience, no evidence: the launch ledger is chained, this is not. It is bounded twice: a launch writes a
limited number of lines that its guest can cause, and a file that has grown is moved aside once.
"""

from __future__ import annotations

import os

from launcher.core.names import EVENTS
from launcher.io import clock
from policy import plain_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

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
