"""Use case *stop*: ask the launcher to end its VM; where the launcher is dead, end and tidy up what it left."""

from __future__ import annotations

import shutil
import signal
import time

from launcher.core import names
from launcher.core.states import KILLED, ORPHANED, STOPPED
from launcher.errors import QemuFailed, WrongState
from launcher.io.moved import refuse_moved
from launcher.io.procid import is_alive, send
from launcher.io.statedir import VmDir, existing, state_root
from launcher.service.listing import describe, true_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_POLL = 0.05


def stop(name: str, *, force: bool, seconds: float) -> dict[str, Any]:
    """End the VM; its row afterwards. ``force`` gives the guest no time. Raises `NotFound`, :class:`WrongState` when it
    has ended already, :class:`QemuFailed` when it does not end within ``seconds``.
    """
    vm = existing(state_root(), name)
    recorded = vm.read_json(names.STATE_FILE)
    state = true_state(recorded)
    if is_alive(recorded.get("launcher")) and vm.is_locked():
        send(recorded.get("launcher"), signal.SIGTERM)
        if force:  # afterwards: a launcher that was asked first does not take QEMU's end for a failure
            send(recorded.get("qemu"), signal.SIGKILL)
        _wait(vm, ("launcher",), recorded, seconds)
    elif state in (KILLED, ORPHANED) or is_alive(recorded.get("emulator")):
        _tidy(vm, recorded, seconds)
    else:
        raise WrongState(f"VM {name} is {state}, not up", hint=f"cvm logs {name} shows its last words")
    return describe(vm)


def forget(name: str) -> None:
    """Remove the folder of a VM that has ended."""
    vm = existing(state_root(), name)
    vm.lock()
    try:
        refuse_moved(vm)
        recorded = vm.read_json(names.STATE_FILE)
        if true_state(recorded) in (KILLED, ORPHANED):
            raise WrongState(f"VM {name} is {true_state(recorded)}", hint=f"cvm stop {name} first")
        shutil.rmtree(vm.path)
    finally:
        vm.unlock()


def _tidy(vm: VmDir, recorded: dict[str, Any], seconds: float) -> None:
    """After a dead launcher: its children by name, its sockets, and the truth in the state file."""
    vm.lock()
    try:
        for what in ("qemu", "emulator"):
            send(recorded.get(what), signal.SIGKILL)
        _wait(vm, ("qemu", "emulator"), recorded, seconds)
        vm.remove(*names.OF_A_RUN)
        recorded["state"] = STOPPED
        recorded["reason"] = "its launcher died; cleaned up"
        vm.write_json(names.STATE_FILE, recorded)
    finally:
        vm.unlock()


def _wait(vm: VmDir, who: tuple[str, ...], recorded: dict[str, Any], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(is_alive(recorded.get(what)) for what in who):
        if time.monotonic() > deadline:
            raise QemuFailed(f"VM {vm.name}: did not end within {seconds:g} s", code="qemu.stuck", hint="use --force")
        time.sleep(_POLL)
