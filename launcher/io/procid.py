"""Name a process for ever: pid, start time and boot. A pid alone is reused; ``cvm ps`` and ``cvm stop`` must not take
a stranger for a VM. Light: on the path of ``cvm ps``.
"""

from __future__ import annotations

import os
import signal

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def identity(pid: int) -> dict[str, object]:
    """``{"pid", "start", "boot"}`` of a living process; ``start`` is 0 when it has none any more."""
    return {"pid": pid, "start": start_time(pid), "boot": boot_id()}


def start_time(pid: int) -> int:
    """Field 22 of ``/proc/PID/stat``: clock ticks after boot. 0 when there is no such process, or only its remains."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123  pathlib costs start-up time
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if len(fields) < 20 or fields[0] in (b"Z", b"X") else int(fields[19])


def boot_id() -> str:
    """The kernel's random name for this boot."""
    try:
        with open(_BOOT_ID, "rb") as file:  # noqa: PTH123  pathlib costs start-up time
            return file.read(64).decode("ascii", "replace").strip()
    except OSError:
        return ""


def is_alive(who: object) -> bool:
    """Whether the process that :func:`identity` named still runs."""
    if not isinstance(who, dict):
        return False
    pid, start = who.get("pid"), who.get("start")
    if not isinstance(pid, int) or not isinstance(start, int) or pid <= 0 or start <= 0:
        return False
    return start_time(pid) == start and who.get("boot") == boot_id()


def send(who: object, number: signal.Signals) -> bool:
    """Send a signal to exactly that process (through a pidfd, so that no stranger can get it); whether it was there."""
    if not is_alive(who) or not isinstance(who, dict):
        return False
    try:
        descriptor = os.pidfd_open(int(who["pid"]))
    except ProcessLookupError:
        return False
    try:
        if not is_alive(who):  # the pid may have changed hands before it was opened
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True
