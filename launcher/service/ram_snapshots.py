"""Snapshots with memory of a running ordinary VM: QEMU's jobs ``snapshot-save`` and ``snapshot-load``.

Memory is kept in the first disk's image beside the disks' own snapshots, all of one moment. While a job runs QEMU's
main loop does nothing else, not even answer, so the launcher waits for the job's event with a patience that follows
from the memory's size. Source: QAPI ``migration.json``, ``job.json``.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from launcher.core.spec import VmSpec
from launcher.core.states import LIVE
from launcher.errors import NotFound, PlanRefused, StorageFailed, WrongState
from launcher.io.qmp import Qmp
from launcher.io.statedir import VmDir, state_root
from launcher.service.epochs import begin_epoch
from launcher.service.resizing import plugged_memory
from policy.vocab import Platform

_STEADY, _PER_SECOND = 60.0, 16 << 20
"""Seconds for anything, and bytes of memory that even a slow disk takes in a second."""


def patience(memory: int) -> float:
    """Seconds in which a job over ``memory`` bytes has ended."""
    return _STEADY + memory / _PER_SECOND


def refuse_memory(platform: Platform) -> None:
    """Raise `PlanRefused` for a VM whose memory the host cannot keep."""
    if platform is Platform.NONE:
        return
    raise PlanRefused(
        f"snapshot: the memory of a {platform.value} VM is encrypted under a key of this one launch: "
        "the host could only keep ciphertext that no later launch can read, and QEMU refuses to save it",
        code="snapshot.protected-memory",
        hint="leave --ram away: a snapshot of the disks, from which the guest boots and attests again",
    )


def refuse_ended(name: str, state: object) -> None:
    """Raise `WrongState` for a VM without a running QEMU."""
    if state not in LIVE:
        raise WrongState(
            f"VM {name} is {state}: memory is kept of a running VM, and goes back into one",
            hint="cvm launch, then cvm snapshot revert --ram",
        )


def save(qmp: Qmp, spec: VmSpec, nodes: Sequence[str], name: str) -> None:
    """Keep memory and ``nodes`` as ``name``. Raises `WrongState` for a name that is taken, `StorageFailed`."""
    _refuse_modules(qmp)
    if spec.shares:
        raise PlanRefused(
            f"snapshot: {len(spec.shares)} folder(s) of the host are open inside the VM: they would be older or newer "
            "than its memory when it goes back",
            code="snapshot.share",
            hint="leave --ram away",
        )
    taken = [node for node in nodes if name in kept(qmp, node)]
    if taken:
        raise WrongState(f"snapshot {name}: there is one of that name")
    problem = _job(qmp, "snapshot-save", spec, nodes, name)
    if problem:
        raise StorageFailed(f"snapshot {name}: {problem}")


def load(qmp: Qmp, spec: VmSpec, nodes: Sequence[str], name: str) -> int:
    """Bring memory and ``nodes`` back to ``name``; the number of the epoch that begins.

    The epoch is written down first: whatever happens then, it is on record that this VM may be in an older state.
    Raises `NotFound`, `WrongState`, `StorageFailed`.
    """
    _refuse_modules(qmp)
    sizes = [kept(qmp, node).get(name) for node in nodes]
    if None in sizes:
        raise NotFound(f"no snapshot {name!r} of all its disks", hint="cvm snapshot list")
    if not sizes[0]:
        raise WrongState(f"snapshot {name} has no memory in it", hint="stop the VM to bring its disks back")
    epoch = begin_epoch(VmDir(state_root(), spec.name), name, "memory and disks are")
    problem = _job(qmp, "snapshot-load", spec, nodes, name)
    if problem:
        raise StorageFailed(
            f"snapshot {name}: {problem}; the VM stands still and its disks are at the snapshot",
            hint=f"cvm stop --force {spec.name}: the next launch boots from its disks",
        )
    return epoch


def kept(qmp: Qmp, node: str) -> dict[str, int]:
    """Bytes of memory in each snapshot of ``node``, 0 for one of the disk alone."""
    named: dict[str, Any] = {item["node-name"]: item["image"] for item in qmp.execute("query-named-block-nodes")}
    return {str(item["name"]): int(item["vm-state-size"]) for item in named[node].get("snapshots", [])}


def _refuse_modules(qmp: Qmp) -> None:
    if plugged_memory(qmp):
        raise WrongState("it has grown: a snapshot's memory fits only the memory it was launched with")


def _job(qmp: Qmp, command: str, spec: VmSpec, nodes: Sequence[str], name: str) -> str:
    """Run it to its end; its error, or nothing."""
    job = f"snapshot-{secrets.token_hex(4)}"
    qmp.execute(command, job_id=job, tag=name, vmstate=nodes[0], devices=list(nodes))
    concluded = {"id": job, "status": "concluded"}
    qmp.await_event(lambda event: event.name == "JOB_STATUS_CHANGE" and event.data == concluded, patience(spec.memory))
    found = [item for item in qmp.execute("query-jobs") if item.get("id") == job]
    qmp.execute("job-dismiss", id=job)
    return str(found[0].get("error", "")) if found else "QEMU forgot the job"
