"""When a console log had grown how far: one line ``UNIX-TIME OFFSET`` a second at most, beside the log.

The console itself carries no times, and writing them into it would break what is read from it. Written by the launcher;
it reads the log several times a second, so an offset is at most a tick late.
"""

from __future__ import annotations

import os

from launcher.core.names import TIMES

MAX_INDEX = 4 << 20
"""Bytes; some two days of output in every single second. What comes after counts as of the last mark."""


class TimeIndex:
    """Marks for one log at ``path``."""

    __slots__ = ("_last", "_path")

    def __init__(self, path: str) -> None:
        self._path = path + TIMES
        self._last = 0.0

    def mark(self, offset: int, now: float) -> None:
        """The log has ``offset`` bytes at ``now`` (seconds since 1970). A disk that is full costs marks, not the VM."""
        if now - self._last < 1.0:
            return
        self._last = now
        try:
            descriptor = os.open(
                self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            try:
                if os.fstat(descriptor).st_size < MAX_INDEX:
                    os.write(descriptor, f"{now:.1f} {offset}\n".encode("ascii"))
            finally:
                os.close(descriptor)
        except OSError:
            return

    def rotate(self) -> None:
        """The log became ``LOG.1``; its marks follow it."""
        try:
            os.rename(self._path, f"{self._path.removesuffix(TIMES)}.1{TIMES}")
        except OSError:
            return


def offset_at(log: str, when: float) -> int:
    """How many bytes ``log`` had at ``when``, rounded down to the last mark; 0 when none is so old."""
    try:
        with open(log + TIMES, "rb") as file:  # noqa: PTH123  pathlib costs start-up time
            data = file.read(MAX_INDEX + 64)
    except OSError:
        return 0
    return parse_marks(data, when)


def parse_marks(data: bytes, when: float) -> int:
    """The largest offset among the marks up to ``when``; lines that are no marks are passed over."""
    best = 0
    for line in data.split(b"\n"):
        time, _, offset = line.partition(b" ")
        if not (offset.isdigit() and len(offset) < 16 and len(time) < 20):
            continue
        try:
            if float(time) <= when:
                best = max(best, int(offset))
        except ValueError:
            continue
    return best
