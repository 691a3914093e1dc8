"""The guest's status port: bytes -> events, each appended to ``status.jsonl`` as the launcher understood it."""

from __future__ import annotations

import os

from launcher.core.status import MAX_LINE, StatusEvent, parse_status_line, status_line
from launcher.errors import StatusMalformed

MAX_LOG = 8 << 20
"""Bytes of log one launch may write; a guest that goes on talking is heard, but not written down."""


class StatusLog:
    """Feed bytes; get events. ``malformed`` counts lines outside the protocol; they are dropped."""

    __slots__ = ("_buffer", "_path", "_skipping", "_written", "malformed")

    def __init__(self, path: str) -> None:
        self._path = path
        self._buffer = bytearray()
        self._skipping = False
        self._written = 0
        self.malformed = 0

    def feed(self, data: bytes) -> list[StatusEvent]:
        """The events that ``data`` completes."""
        events = []
        for number, piece in enumerate(data.split(b"\n")):
            if number:
                events += self._line()
            if not self._skipping:
                self._buffer += piece
                self._skipping = len(self._buffer) > MAX_LINE
        self._append(events)
        return events

    def _line(self) -> list[StatusEvent]:
        """The line that just ended, if it is one of the protocol's."""
        line, skipped = bytes(self._buffer[: MAX_LINE + 1]), self._skipping
        self._buffer.clear()
        self._skipping = False
        if not line and not skipped:
            return []
        try:
            return [parse_status_line(line)]
        except StatusMalformed:
            self.malformed += 1
            return []

    def _append(self, events: list[StatusEvent]) -> None:
        text = "".join(status_line(event) + "\n" for event in events).encode("ascii")
        if not text or self._written + len(text) > MAX_LOG:
            return
        self._written += len(text)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self._path, flags, 0o600)
            try:
                os.write(descriptor, text)
            finally:
                os.close(descriptor)
        except OSError:
            return  # a disk that is full costs the log, not the VM
