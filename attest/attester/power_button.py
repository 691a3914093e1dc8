"""The ACPI power button, by which the host asks for an orderly end (``cvm stop``).

The host can end the guest at any time without asking, so obeying costs nothing; not being asked would cost the owner's
data. Needs the modules ``button`` and ``evdev``. Source: Linux UAPI ``linux/input.h`` (struct input_event, 24 bytes on
x86-64), ``linux/input-event-codes.h``.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path

DEVICES = Path("/dev/input")
_EVENT = struct.Struct("qqHHi")
_EV_KEY, _KEY_POWER, _DOWN = 1, 116, 1


class PowerButton:
    """All input devices, asked without waiting."""

    def __init__(self, devices: Path = DEVICES) -> None:
        self._open: list[int] = []
        for path in sorted(devices.glob("event*")):
            with suppress(OSError):
                self._open.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))

    def pressed(self) -> bool:
        """Whether it was pressed since the last call."""
        return sum(_power_key(fd) for fd in self._open) > 0  # every device is read


def _power_key(fd: int) -> bool:
    found = False
    with suppress(OSError):
        while data := os.read(fd, 64 * _EVENT.size):
            for _, _, kind, code, value in _EVENT.iter_unpack(data[: len(data) // _EVENT.size * _EVENT.size]):
                found = found or (kind, code, value) == (_EV_KEY, _KEY_POWER, _DOWN)
    return found
