"""What a launcher does to a running VM when a verb asks it to: the monitor serves one client, the launcher."""

from __future__ import annotations

from launcher.core.argv.disks import throttle_object, top_node
from launcher.core.qmp_rules import is_question
from launcher.core.spec import VmSpec
from launcher.core.storage import Throttle
from launcher.errors import WrongState
from launcher.io.qmp import Qmp
from launcher.service.planning import Prepared
from launcher.service.resizing import memory
from policy.errors import MalformedInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Command = Callable[[Prepared, Qmp, dict[str, Any]], dict[str, object]]

MAX_VALUE = 10**15
"""THROTTLE_VALUE_MAX of QEMU's ``util/throttle.c``."""


class LiveMalformed(MalformedInput):
    """A command whose details make no sense."""

    code = "control.malformed"


def throttle_objects(spec: VmSpec) -> dict[str, list[str]]:
    """Throttle groups of the VM by the id of their object, each with its disks."""
    found: dict[str, list[str]] = {f"group-{item.name}": [] for item in spec.throttles}
    for disk in spec.disks:
        name = throttle_object(disk)
        if name is not None:
            found.setdefault(name, []).append(disk.name)
    return found


def throttle(prepared: Prepared, qmp: Qmp, about: dict[str, Any]) -> dict[str, object]:
    """Show all groups' limits, or change one's: ``object``, ``changes``, ``off`` (forget all limits first)."""
    objects = throttle_objects(prepared.plan.spec)
    if not objects:
        raise WrongState(
            "none of its disks has limits to change",
            hint="[disk.throttle] or throttle_group in the VM file makes a place for them; the next launch has it",
        )
    if about:
        wanted = about.get("object")
        if wanted not in objects:
            raise WrongState(f"no limits for {str(wanted)[:60]!r}; it has {', '.join(sorted(objects))}")
        said = _change(qmp, str(wanted), _changes(about.get("changes")), off=about.get("off") is True)
    else:
        said = "shown"
    groups = [
        {"object": name, "disks": disks, "limits": limits_of(qmp, name).qapi()} for name, disks in objects.items()
    ]
    return {"said": said, "groups": groups}


def limits_of(qmp: Qmp, name: str) -> Throttle:
    """What QEMU enforces now."""
    found = qmp.execute("qom-get", path=f"/objects/{name}", property="limits")
    return Throttle().changed({key: value for key, value in found.items() if isinstance(value, int)})


def _change(qmp: Qmp, name: str, changes: dict[str, int], *, off: bool) -> str:
    before = Throttle() if off else limits_of(qmp, name)
    after = before.changed(changes)
    problems = after.problems()
    if problems:
        raise LiveMalformed(f"limits of {name}: " + "; ".join(f"{where}: {text}" for where, text in problems))
    qmp.execute("qom-set", path=f"/objects/{name}", property="limits", value=after.qapi())
    return f"{name}: {after.shown}"


def _changes(changes: object) -> dict[str, int]:
    known = Throttle().qapi()
    if not isinstance(changes, dict) or not changes.keys() <= known.keys():
        raise LiveMalformed(f"limits: want some of {', '.join(known)}")
    for name, value in changes.items():
        low = 1 if name.endswith("-length") else 0
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= MAX_VALUE:
            raise LiveMalformed(f"limits: {name}: got {str(value)[:40]}, want {low} to {MAX_VALUE}")
    return changes


def snapshot(prepared: Prepared, qmp: Qmp, about: dict[str, Any]) -> dict[str, object]:
    """``do`` create, delete or list; on every disk that can be written, created in one transaction. With ``ram`` also
    revert, and create keeps memory: see :mod:`launcher.service.ram_snapshots`.
    """
    disks = [(number, disk) for number, disk in enumerate(prepared.plan.spec.disks) if not disk.readonly]
    what, name = about.get("do"), str(about.get("name"))[:64]
    wrong = [disk.name for _, disk in disks if disk.format != "qcow2" or disk.network or disk.replicas]
    if wrong or not disks:
        raise WrongState(f"it runs with disks that keep no snapshots: {', '.join(wrong) or 'none is written'}")
    tops = [top_node(disk, number) for number, disk in disks]
    said = f"snapshot {what}"
    if about.get("ram") is True and what in ("create", "revert"):
        said = _with_memory(prepared, qmp, str(what), [f"node{number}" for number, _ in disks], name)
    elif what == "create":
        actions = [{"type": "blockdev-snapshot-internal-sync", "data": {"device": node, "name": name}} for node in tops]
        qmp.execute("transaction", actions=actions)
    elif what == "delete":
        for node in tops:
            qmp.execute("blockdev-snapshot-delete-internal-sync", device=node, name=name)
    elif what != "list":
        raise LiveMalformed(f"snapshot: got {str(what)[:20]!r}, want create, delete or list")
    named = {item["node-name"]: item["image"] for item in qmp.execute("query-named-block-nodes")}
    found = [
        [disk.name, item["name"], item["date-sec"], item["vm-state-size"]]
        for number, disk in disks
        for item in named[f"node{number}"].get("snapshots", [])
    ]
    return {"said": said, "snapshots": found}


def _with_memory(prepared: Prepared, qmp: Qmp, what: str, nodes: list[str], name: str) -> str:
    from launcher.service import ram_snapshots

    spec = prepared.plan.spec
    ram_snapshots.refuse_memory(spec.platform)
    if what == "create":
        ram_snapshots.save(qmp, spec, nodes, name)
        return "snapshot create, with memory"
    return f"snapshot revert, with memory: epoch {ram_snapshots.load(qmp, spec, nodes, name)}"


def net(prepared: Prepared, qmp: Qmp, about: dict[str, Any]) -> dict[str, object]:
    """See :mod:`launcher.service.net_limits`, which few VMs need."""
    from launcher.service.net_limits import net_limits

    return net_limits(prepared, qmp, about)


def qmp(prepared: Prepared, monitor: Qmp, about: dict[str, Any]) -> dict[str, object]:
    """See :mod:`launcher.service.passthrough_qmp`, which few launches need."""
    from launcher.service.passthrough_qmp import pass_on

    return pass_on(prepared, monitor, about)


def changes(word: str, about: dict[str, Any]) -> bool:
    """Whether a command that was carried out was more than a question."""
    if word == "qmp":
        return not is_question(str(about.get("command")))
    return bool(about) and about.get("do") != "list"


def disks(prepared: Prepared, qmp: Qmp, about: dict[str, Any]) -> dict[str, object]:
    """See :mod:`launcher.service.disk_latency`, which only who watches needs."""
    from launcher.service.disk_latency import disk_latency

    return disk_latency(prepared, qmp, about)


COMMANDS: dict[str, Command] = {
    "throttle": throttle, "memory": memory, "snapshot": snapshot, "net": net, "qmp": qmp, "disks": disks
}  # fmt: skip
SILENT = frozenset(("disks",))
"""Asked again and again by who watches; the log is for what changes."""
