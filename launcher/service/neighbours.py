"""What other VMs of this host have taken already: processors, memory and keys."""

from __future__ import annotations

from launcher.core.admission import Occupied
from launcher.core.limits import cpu_list, overhead
from launcher.core.names import CONFINEMENT_FILE
from launcher.core.states import LIVE
from launcher.errors import StateUnusable
from launcher.io.statedir import VmDir, state_root, vm_names
from launcher.io.sysfs import read_text
from launcher.service.listing import describe, list_vms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.io.sysfs import AnyPath


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


def occupied(name: str, root: AnyPath = "/") -> Occupied:
    """What the VMs that are up hold, but ``name``'s own last launch."""
    promised = 0
    for row in list_vms(state_root()):
        if row["name"] != name and row["state"] in LIVE and isinstance(row["memory"], int):
            promised += row["memory"] + overhead(row["memory"])
    top = f"{root}/sys/fs/cgroup"
    capacity, current = _counts(f"{top}/misc.capacity"), _counts(f"{top}/misc.current")
    return Occupied(promised, {what: (number, current.get(what, 0)) for what, number in capacity.items()})


def _counts(path: str) -> dict[str, int]:
    """``sev_es 99`` per line; ``max`` counts as no limit and is left out."""
    rows = [line.split() for line in read_text(path).splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}
