"""A guest's reboot inside one QEMU (``on_reboot = "in-place"``): counted, spaced and written down like any launch.

QEMU halts its guest and waits (``-action reboot=shutdown,shutdown=pause``); the launcher has it reset when it is time.
A protected guest gets a new launch context by that (QEMU 11.0): measured again, with nothing of the old memory, so it
must attest again before it has a key.
"""

from __future__ import annotations

import time

from launcher.core.lifecycle import Ending, Restarts
from launcher.io.qmp import Qmp
from launcher.service.record import Record
from launcher.service.restarting import again_in_place


class InPlace:
    """Of one QEMU. ``restarts`` counts for all launches of this launcher."""

    def __init__(self, record: Record, restarts: Restarts) -> None:
        self._record = record
        self._restarts = restarts
        self._at: float | None = None
        self._resetting = False

    def asked_for(self) -> bool:
        """The guest has ended; whether it will be launched again inside this QEMU, and then the wait has begun."""
        record, progress = self._record, self._record.progress
        if progress.decided or not progress.rebooted:
            return False
        wait = self._restarts.after(Ending("ran", progress.state, record.asked_to_end, record.now(), rebooted=True))
        if wait is None:
            return False
        self._at = time.monotonic() + wait
        record.waiting = f"reboot {self._restarts.tries} of {self._restarts.settings.retries} in {wait:g} s"
        record.say(f"the guest asked for a reboot: {record.waiting}")
        record.events.put("launcher", "reboot", {"try": self._restarts.tries, "in_seconds": wait})
        return True

    def due(self) -> bool:
        """Whether the wait is over."""
        return self._at is not None and time.monotonic() >= self._at

    def relaunch(self, qmp: Qmp) -> None:
        """Write down the end and the new launch, then have QEMU reset. Raises what writing raises, `QemuFailed`."""
        self._at = None
        record = self._record
        again_in_place(record, self._restarts.since)
        qmp.execute("set-action", reboot="reset")  # else the launcher's own reset would be a shutdown, too
        qmp.execute("system_reset")
        self._resetting = True
        record.save()

    def was_reset(self, qmp: Qmp) -> None:
        """QEMU's event RESET: the command only asks for it, and until then the guest cannot go on."""
        if self._resetting:
            self._resetting = False
            qmp.execute("set-action", reboot="shutdown")
            qmp.execute("cont")
