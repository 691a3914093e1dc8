"""I/O priority of QEMU's I/O threads, set from outside: its sandbox forbids it to touch such things itself.

Threads that an I/O thread starts for its requests inherit the priority. Sources: ioprio_set(2), proc(5) NSpid.
"""

from __future__ import annotations

import ctypes
import os

from launcher.core.argv.disks import iothread
from launcher.core.vm import Disk
from launcher.io.libc import libc
from launcher.io.qmp import Qmp

_SYS_IOPRIO_SET, _SYS_IOPRIO_GET, _WHO_THREAD, _CLASS_SHIFT = 251, 252, 1, 13
_CLASSES = {"realtime": 1, "best-effort": 2, "idle": 3}


def prioritise(qmp: Qmp, pid: int, disks: tuple[Disk, ...]) -> list[str]:
    """Give each disk's I/O thread its priority; one line for each, whether it worked or why not."""
    wanted = {iothread(number): disk for number, disk in enumerate(disks) if disk.io_priority is not None}
    if not wanted:
        return []
    inside = {str(item["id"]): int(item["thread-id"]) for item in qmp.execute("query-iothreads")}
    outside = threads_by_inner_number(pid)
    lines = []
    for name, disk in wanted.items():
        thread = outside.get(inside.get(name, -1))
        problem = "no such thread" if thread is None else set_priority(thread, disk.io_priority or "")
        done = f"NOT enforced: {problem}" if problem else f"{disk.io_priority}"
        lines.append(f"disk {disk.name}: I/O priority {done}")
    return lines


def priority_number(text: str) -> int:
    """``best-effort:4`` -> 16388: the class in the upper bits, the level in the lower ones."""
    kind, _, level = text.partition(":")
    return _CLASSES[kind] << _CLASS_SHIFT | int(level or "0")


def set_priority(thread: int, text: str) -> str:
    """Empty, or why the kernel refused."""
    if libc.syscall(_SYS_IOPRIO_SET, _WHO_THREAD, thread, priority_number(text)) == 0:
        return ""
    return os.strerror(ctypes.get_errno())


def get_priority(thread: int) -> int:
    """As :func:`priority_number`; raises OSError."""
    found = int(libc.syscall(_SYS_IOPRIO_GET, _WHO_THREAD, thread))
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found


def threads_by_inner_number(pid: int) -> dict[int, int]:
    """Threads of a process: their number in its own PID namespace -> their number here."""
    found: dict[int, int] = {}
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123  pathlib costs start-up time
                numbers = next((line.split() for line in file if line.startswith("NSpid:")), [])
        except OSError:
            continue  # it has ended
        if numbers:
            found[int(numbers[-1])] = int(thread)
    return found
