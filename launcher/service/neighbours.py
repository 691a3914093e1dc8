"""What other VMs of this host have taken already: processors, for a placement that keeps out of their way."""

from __future__ import annotations

from launcher.core.limits import cpu_list
from launcher.core.names import CONFINEMENT_FILE
from launcher.core.states import LIVE
from launcher.errors import StateUnusable
from launcher.io.statedir import VmDir, state_root, vm_names
from launcher.service.listing import describe


def pinned_elsewhere(name: str) -> frozenset[int]:
    """Processors that live VMs other than ``name`` have vCPUs pinned to."""
    found: set[int] = set()
    for other in vm_names(state_root()):
        vm = VmDir(state_root(), other)
        if other != name and describe(vm)["state"] in LIVE:
            found |= _pinned(vm)
    return frozenset(found)


def _pinned(vm: VmDir) -> set[int]:
    try:
        rows = vm.read_json(CONFINEMENT_FILE).get("placement", [])
        return {
            number
            for row in rows
            if str(row["what"]).startswith("vCPU") and not row["problem"]
            for number in cpu_list(row["cpus"])
        }
    except (StateUnusable, TypeError, KeyError, ValueError, AttributeError):
        return set()  # not pinned, or of an older release
