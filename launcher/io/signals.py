"""SIGINT, SIGTERM and SIGHUP while a VM is up: interrupt the start, or ask the supervisor to end things in order."""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType, TracebackType

from launcher.io.process import ENDING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class SignalTrap:
    """While entered, the three signals raise KeyboardInterrupt; after :meth:`collect` they are only remembered. Always
    they make the descriptor ``wakeup`` readable: Python drops an exception that is raised while a weak reference dies,
    as at the end of every import, and then the supervisor still learns of the signal.
    """

    def __init__(self) -> None:
        self.received: list[signal.Signals] = []
        self._collecting = False
        self._previous: dict[signal.Signals, Any] = {}
        self.wakeup, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def __enter__(self) -> SignalTrap:
        for number in ENDING:
            self._previous[number] = signal.signal(number, self._arrived)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        os.close(self.wakeup)
        os.close(self._writer)

    def collect(self) -> None:
        """From now on only remember."""
        self._collecting = True

    def take(self) -> list[signal.Signals]:
        """Signals since the last call."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.wakeup, 4096)
        taken, self.received = self.received, []
        return taken

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        self.received.append(signal.Signals(number))
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b"!")
        if not self._collecting:
            raise KeyboardInterrupt
