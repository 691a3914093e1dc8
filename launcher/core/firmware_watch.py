"""Notice that the firmware stopped on purpose.

OVMF's AmdSev build verifies kernel, initrd and command line against the measured hash table. When one does not match
it prints nothing: it enters edk2's ``CpuDeadLoop`` (``pause; jmp`` back, MdePkg ``BaseLib/CpuDeadLoop.c``) and stays
there at full speed. So the sign is: the boot processor's instruction pointer stays within a few bytes around a
``pause`` instruction for seconds while the process burns processor time, and the console is silent. A machine that is
merely slow burns time at changing addresses, one that is starved burns none.
"""

from __future__ import annotations

import re

from policy.named import NamedTuple

SPAN = 32
"""Bytes: the loop with its call frame."""
WINDOW = 2.5
"""Seconds in one place before it counts."""
BURN = 1.25
"""Processor seconds QEMU must have used meanwhile; on a busy machine that takes longer than the window."""
_PAUSE = b"\xf3\x90"
_RIP = re.compile(r"\b[RE]IP=([0-9a-f]{8,16})\b")
_BYTE = re.compile(r"0x([0-9a-f]{2})\b")


class Sample(NamedTuple):
    """One look at the boot processor: instruction pointer, QEMU's processor seconds so far, host seconds."""

    rip: int
    cpu: float
    at: float


def parse_rip(registers: str) -> int | None:
    """The instruction pointer in QEMU's ``info registers``."""
    match = _RIP.search(registers)
    return int(match[1], 16) if match else None


def parse_dump(dump: str) -> bytes:
    """The bytes in QEMU's ``x /Nxb``."""
    return bytes(int(digits, 16) for line in dump.splitlines() for digits in _BYTE.findall(line.partition(":")[2]))


class FirmwareWatch:
    """Collects samples; :meth:`stuck_at` names the address of a suspected loop, for the caller to :meth:`confirm`."""

    __slots__ = ("_first", "_high", "_last", "_low")

    def __init__(self) -> None:
        self._first: Sample | None = None
        self._last: Sample | None = None
        self._low = self._high = 0

    def add(self, sample: Sample) -> None:
        """Remember a sample; a jump elsewhere starts the window anew."""
        low, high = min(self._low, sample.rip), max(self._high, sample.rip)
        if self._first is None or high - low > SPAN:
            self._first = sample
            low = high = sample.rip
        self._low, self._high, self._last = low, high, sample

    def stuck_at(self) -> int | None:
        """The lowest address of a place where the processor has been busy for the whole window."""
        first, last = self._first, self._last
        if first is None or last is None or self._high >= 1 << 32:
            return None  # kernels run high, firmware below 4 GiB
        return self._low if last.at - first.at >= WINDOW and last.cpu - first.cpu >= BURN else None

    @staticmethod
    def confirm(code: bytes) -> bool:
        """Whether the bytes around the place hold a ``pause``."""
        return _PAUSE in code
