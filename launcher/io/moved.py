"""The mark on a VM that has left this host, or is about to: while it is there, nothing here may start the VM."""

from __future__ import annotations

from launcher.core.names import MOVED_FILE, STATE_FILE
from launcher.core.states import STOPPED
from launcher.errors import WrongState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.io.statedir import VmDir


def refuse_moved(vm: VmDir) -> None:
    """Raise :class:`WrongState` for a marked VM. Call with the VM's lock held."""
    import os

    if not os.path.exists(vm.file(MOVED_FILE)):
        return
    found = vm.read_json(MOVED_FILE)
    raise WrongState(
        f"VM {vm.name} is {found.get('state')} to {found.get('to')} since {found.get('since')}: it starts on one host",
        hint=f"cvm move {vm.name} --release, once it is certain that it does not run there and never will",
    )


def mark(vm: VmDir, state: str, to: str, since: str) -> None:
    """``moving`` or ``moved``, on disk before this returns; `cvm ps` shows it."""
    vm.write_json(MOVED_FILE, {"schema": "cvm.moved/1", "state": state, "to": to, "since": since})
    _show(vm, state, f"to {to}")


def unmark(vm: VmDir, reason: str) -> None:
    """The VM is this host's again, and down."""
    vm.remove(MOVED_FILE)
    _show(vm, STOPPED, reason)


def _show(vm: VmDir, state: str, reason: str) -> None:
    recorded = vm.read_json(STATE_FILE)
    vm.write_json(STATE_FILE, {**recorded, "state": state, "reason": reason})
