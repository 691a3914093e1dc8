"""Notice a firmware that refuses its kernel: it stops in a dead loop and says nothing, so its processor is watched."""

from __future__ import annotations

from launcher.core.firmware_watch import SPAN, FirmwareWatch, Sample, parse_dump, parse_rip
from launcher.core.states import STARTING
from launcher.errors import QemuFailed, QmpMalformed
from launcher.io.process import cpu_seconds
from launcher.io.qemu import Qemu
from launcher.service.record import Record


class FirmwareGuard:
    """Only until the first sign of a kernel, and only for a firmware that checks what it boots."""

    def __init__(self, record: Record, qemu: Qemu) -> None:
        self._record = record
        self._qemu = qemu
        self._watch = FirmwareWatch()

    def look(self, now: float) -> None:
        """Once every tick."""
        progress = self._record.progress
        if progress.state != STARTING or progress.kernel_seen or progress.decided:
            return
        try:
            code = self._loop(now)
        except (QemuFailed, QmpMalformed):
            return
        if code is not None and self._watch.confirm(code):
            from launcher.service.mismatch import explain_refusal  # OpenSSL, for a VM that goes wrong

            progress.firmware_refused(explain_refusal(self._record), now)

    def _loop(self, now: float) -> bytes | None:
        """The code around which the processor has stood for long enough, if any."""
        qmp = self._qemu.qmp
        rip = parse_rip(qmp.hmp("info registers"))
        if rip is None:
            return None
        self._watch.add(Sample(rip, cpu_seconds(self._qemu.child.pid), now))
        stuck = self._watch.stuck_at()
        if stuck is None:
            return None
        return parse_dump(qmp.hmp(f"x /{2 * SPAN}xb {stuck - SPAN // 2:#x}"))
