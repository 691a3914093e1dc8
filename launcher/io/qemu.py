"""One QEMU process with its monitor, status port and console log."""

from __future__ import annotations

import os
import select
import time

from launcher.core.names import QEMU_LOG, QMP_SOCKET, STATUS_SOCKET
from launcher.core.text import safe_text
from launcher.errors import QemuFailed
from launcher.io.isolation import start_confined
from launcher.io.process import end

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence
    from typing import IO

    from launcher.io.isolation import Fds, Jail, Step
    from launcher.io.process import Child
    from launcher.io.qmp import Qmp
    from launcher.io.statedir import VmDir

_PATIENCE = 60.0
_GREETS_WITHIN = 20.0
_LOOK_EVERY = 0.003
"""Seconds; QEMU listens some 30 ms after its start."""


class Qemu:
    """A started QEMU. ``status`` is the host's end of the guest's status port; ``steps`` confine it."""

    __slots__ = ("child", "qmp", "status", "steps")

    def __init__(self, child: Child, qmp: Qmp, status: socket.socket, steps: tuple[Step, ...]) -> None:
        self.child = child
        self.steps = steps
        self.qmp = qmp
        self.status = status

    def close(self) -> int:
        """End it if it has not ended; its return code."""
        code = end(self.child)
        self.qmp.close()
        self.status.close()
        return code


def start_qemu(
    argv: Sequence[str],
    env: Mapping[str, str],
    vm: VmDir,
    log: IO[bytes],
    jail: Jail,
    started: Callable[[int], None],
    fds: Fds = (),
) -> Qemu:
    """Start QEMU inside the VM's folder, confined, and connect to it. Raises :class:`QemuFailed` with QEMU's words,
    :class:`launcher.io.isolation.IsolationRefused`. ``started`` gets its pid at once; ``fds`` are handed on.
    """
    try:
        child, steps = start_confined(jail, argv, env, vm, log, fds)
    except OSError as exc:
        raise QemuFailed(f"QEMU: {argv[0]}: {exc.strerror}") from None
    try:
        started(child.pid)
        monitor = greeting_monitor(vm, child)
        if monitor is None:
            raise _did_not_start(child, vm)
        from launcher.io.qmp import QmpClosed, open_qmp
        from launcher.io.sockets import connect_soon

        try:
            qmp = open_qmp(monitor)
        except QmpClosed:
            child.wait(_PATIENCE)
            raise _did_not_start(child, vm) from None
        status = connect_soon(vm.path, STATUS_SOCKET, seconds=_PATIENCE, alive=lambda: child.poll() is None)
        if status is None:
            raise _did_not_start(child, vm)
        status.setblocking(False)
    except BaseException:
        end(child)
        raise
    return Qemu(child, qmp, status, steps)


def greeting_monitor(vm: VmDir, child: Child) -> socket.socket | None:
    """QEMU's monitor when it begins to speak, which is when the guest's processors run; ``None``: it did not open one.
    Raises :class:`QemuFailed` for one that stays silent.

    Until then the launcher sleeps: what the supervision loads would take a processor, and part of its speed where two
    share a core, from the very start it waits for.
    """
    deadline = time.monotonic() + _PATIENCE
    while not os.path.exists(vm.file(QMP_SOCKET)):
        if child.poll() is not None or time.monotonic() > deadline:
            return None
        time.sleep(_LOOK_EVERY)
    from launcher.io.sockets import connect_soon

    monitor = connect_soon(vm.path, QMP_SOCKET, seconds=_PATIENCE, alive=lambda: child.poll() is None)
    if monitor is not None and not select.select([monitor], (), (), _GREETS_WITHIN)[0]:
        monitor.close()
        raise QemuFailed(f"QMP: no greeting within {_GREETS_WITHIN:g} s")
    return monitor


def _did_not_start(child: Child, vm: VmDir) -> QemuFailed:
    from launcher.core.error_words import explain

    code = child.poll()
    how = "did not open its monitor" if code is None else f"ended with {_ending(code)}"
    words = last_words(vm)
    known = explain(words)
    hint = f"{known[0].cause}: {known[0].remedy}" if known else f"all it wrote: {vm.file(QEMU_LOG)}"
    return QemuFailed(f"QEMU {how}: {words or 'it said nothing'}", hint=hint)


def last_words(vm: VmDir) -> str:
    """The last lines QEMU wrote that are not warnings."""
    import re

    from launcher.io.tail import last_lines

    lines = [re.sub(r"^\S*qemu-system-x86_64: ", "", line) for line in last_lines(vm.file(QEMU_LOG), 40)]
    return "; ".join(safe_text(line, 400) for line in lines if not line.startswith("warning: "))


def _ending(code: int) -> str:
    hints = {-6: "signal 6 (abort: a bug in QEMU)", -11: "signal 11 (a bug in QEMU)",
             -31: "signal 31 (seccomp: something tried a forbidden system call)"}  # fmt: skip
    return hints.get(code, f"signal {-code}" if code < 0 else f"status {code}")
