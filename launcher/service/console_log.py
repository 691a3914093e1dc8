"""What a running VM's QEMU writes: the console, line by line and with times, and its own log; both are kept short."""

from __future__ import annotations

import time

from launcher.core import names
from launcher.core.text import LineSplitter
from launcher.io.tail import Tail
from launcher.io.times import TimeIndex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.io.statedir import VmDir

ROTATE_EVERY = 5.0
"""Seconds between two looks at how long the logs have become."""


class ConsoleLog:
    """The console's log is read from where it was read last."""

    def __init__(self, vm: VmDir) -> None:
        self._serial = Tail(vm.file(names.SERIAL_LOG))
        self._qemu = Tail(vm.file(names.QEMU_LOG))
        self._times = TimeIndex(self._serial.path)
        self._splitter = LineSplitter()
        self._rotated = 0.0

    def lines(self) -> list[str]:
        """What was written since the last call, in cleaned lines; when is marked beside the log."""
        data = self._serial.read()
        if data:
            self._times.mark(self._serial.offset, time.time())
        return self._splitter.feed(data)

    def rotate(self, now: float) -> None:
        """Begin a log anew that has grown too long; looked at every :data:`ROTATE_EVERY` seconds."""
        if now - self._rotated <= ROTATE_EVERY:
            return
        self._rotated = now
        if self._serial.rotate():
            self._times.rotate()
        self._qemu.rotate()
