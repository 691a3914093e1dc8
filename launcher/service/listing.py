"""Use case *ps*: the true state of every VM. What a launcher wrote last is compared with the processes that exist.

On the start-up path of ``cvm ps``: nothing heavy is imported.
"""

from __future__ import annotations

from launcher.core.names import STATE_FILE
from launcher.core.states import FAILED, KILLED, LIVE, ORPHANED
from launcher.errors import StateUnusable, WrongState
from launcher.io.procid import is_alive
from launcher.io.statedir import VmDir, vm_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SHOWN = (
    "state",
    "platform",
    "vcpus",
    "memory",
    "since",
    "attested",
    "paused",
    "reason",
    "launch_digest",
    "accelerator",
    "config",
)


def list_vms(root: str) -> list[dict[str, Any]]:
    """One object per VM, by name; members as in ``cvm.ps/1``. A folder that cannot be read is listed as failed."""
    return [describe(VmDir(root, name)) for name in vm_names(root)]


def describe(vm: VmDir) -> dict[str, Any]:
    """One VM's row."""
    try:
        recorded = vm.read_json(STATE_FILE)
    except StateUnusable as exc:
        recorded = {"state": FAILED, "reason": exc.message}
    row: dict[str, Any] = {"name": vm.name}
    row.update((key, recorded.get(key)) for key in _SHOWN)
    row["state"] = true_state(recorded)
    if row["state"] == KILLED:
        row["reason"] = "its launcher died; cvm stop cleans up"
    elif row["state"] == ORPHANED:
        row["reason"] = "its launcher died, QEMU still runs; cvm stop ends it"
    row["paused"] = row["paused"] is True and row["state"] in LIVE
    row["pid"] = _pid(recorded.get("qemu")) if is_alive(recorded.get("qemu")) else None
    return row


def true_state(recorded: dict[str, Any]) -> str:
    """The recorded state if its launcher still lives or the VM had ended; else what became of it."""
    state = str(recorded.get("state"))
    if is_alive(recorded.get("launcher")):
        return state
    if is_alive(recorded.get("qemu")):
        return ORPHANED
    return KILLED if state in LIVE else state


def refuse_orphans(vm: VmDir) -> None:
    """Raise :class:`WrongState` when an earlier launch left a QEMU or an emulated chip behind."""
    try:
        recorded = vm.read_json(STATE_FILE)
    except StateUnusable:
        return  # nothing recorded
    for what in ("qemu", "emulator"):
        if is_alive(recorded.get(what)):
            raise WrongState(
                f"VM {vm.name}: {what} of an earlier launch still runs (pid {_pid(recorded.get(what))})",
                hint=f"cvm stop {vm.name}",
            )


def _pid(who: object) -> int | None:
    pid = who.get("pid") if isinstance(who, dict) else None
    return pid if isinstance(pid, int) else None
