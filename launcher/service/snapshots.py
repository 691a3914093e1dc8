"""Use case *snapshot*: internal snapshots of a VM's qcow2 disks, all in one moment; of an ordinary VM with memory too.

While the VM runs its launcher makes them through QEMU's monitor, in one transaction or job; otherwise ``qemu-img``
does, with the VM's lock held so that no launch comes between.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from launcher.core.states import LIVE
from launcher.core.storage import describe as source_words
from launcher.core.vm import Disk, VmConfig
from launcher.errors import NotFound, PlanRefused, WrongState
from launcher.io.control import PATIENCE, ask
from launcher.io.disk_files import check_disk
from launcher.io.layers import Layer
from launcher.io.moved import refuse_moved
from launcher.io.statedir import VmDir, existing, state_root
from launcher.service.epochs import begin_epoch
from launcher.service.external_snapshots import change, is_layered
from launcher.service.listing import describe
from launcher.service.qemu_img import qemu_img
from launcher.service.ram_snapshots import patience, refuse_ended, refuse_memory
from launcher.service.vm_file import load_vm
from policy.errors import CvmError
from policy.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")


class Snapshot(NamedTuple):
    """``disk`` by its serial; ``seconds``: when it was made, since 1970; ``memory``: bytes of memory in it;
    ``external``: what came later is in a layer of its own beside the disk.
    """

    disk: str
    name: str
    seconds: int
    memory: int = 0
    external: bool = False


def snapshot(
    name: str, what: str, snapshot_name: str, *, ram: bool = False, external: bool = False
) -> tuple[list[Snapshot], list[str]]:
    """``create``, ``list``, ``delete`` or ``revert``; the snapshots afterwards, and what to think about.

    Raises `NotFound`, `WrongState`, `PlanRefused`, `StorageFailed`.
    """
    vm = existing(state_root(), name)
    row = describe(vm)
    config = load_vm(str(vm.read_json("state.json").get("config")))
    if ram:
        refuse_memory(config.platform)
        refuse_ended(name, row["state"])
    if what != "list" and not NAME.fullmatch(snapshot_name):
        raise CvmError(f"snapshot {snapshot_name[:80]!r}: want at most 64 of a-z 0-9 . _ -", code="usage")
    layered = _layered(config, what, wanted=external) if not ram else []
    if layered:
        return _external(vm, config, layered, what, snapshot_name, row["state"]), _thoughts(config, what)
    disks = snapshot_disks(config)
    if row["state"] not in LIVE:
        return _stopped(vm, disks, what, snapshot_name), _thoughts(config, what)
    if what == "revert" and not ram:
        raise WrongState(
            f"VM {name} is {row['state']}: its disks change under it",
            hint=f"cvm stop {name}; or --ram, for a snapshot with memory",
        )
    about = {"do": what, "name": snapshot_name, "ram": ram}
    answer = ask(vm.path, name, "snapshot", about, seconds=PATIENCE + (patience(config.memory) if ram else 0.0))
    found = [Snapshot(*item) for item in answer.get("snapshots", [])]
    return found, _thoughts(config, what)


def _layered(config: VmConfig, what: str, *, wanted: bool) -> list[Disk]:
    """The disks, where their snapshots are layers beside them: for ``create`` only if that is wanted."""
    written = [disk for disk in config.disks if not disk.readonly]
    found = written if is_layered(written) else []
    if wanted and not found:
        raise PlanRefused(
            "snapshot: layers lie over local raw files only, and over all disks of a VM or none",
            code="snapshot.layers",
            hint="a qcow2 image keeps snapshots inside itself: leave --external away",
        )
    return found if wanted or what != "create" else []


def _external(vm: VmDir, config: VmConfig, disks: list[Disk], what: str, name: str, state: object) -> list[Snapshot]:
    if state in LIVE and what != "list":
        raise WrongState(f"VM {vm.name} is {state}: layers are put over disks at rest", hint=f"cvm stop {vm.name}")
    if what == "list":
        return _rows(change(vm, config, disks, what, name))
    vm.lock()
    try:
        refuse_moved(vm)
        for disk in disks:
            check_disk(disk)
        return _rows(change(vm, config, disks, what, name))
    finally:
        vm.unlock()


def _rows(found: list[tuple[str, Layer]]) -> list[Snapshot]:
    return [Snapshot(disk, item.name, item.seconds, external=True) for disk, item in found]


def snapshot_disks(config: VmConfig) -> list[Disk]:
    """The disks a snapshot is of: every one that can be written. Raises `PlanRefused` for one that has no snapshots."""
    written = [disk for disk in config.disks if not disk.readonly]
    for disk in written:
        if disk.network is not None:
            where = source_words(disk.network)
            raise PlanRefused(
                f"snapshot: disk {disk.name}: {where} is not this host's",
                code="snapshot.elsewhere",
                hint="make it where the disk lives: rbd snap create",
            )
        if disk.format != "qcow2" or disk.replicas is not None:
            shape = "has copies" if disk.replicas is not None else f"is {disk.format}"
            raise PlanRefused(
                f"snapshot: disk {disk.name} {shape}: only a qcow2 image keeps snapshots of itself, and one of "
                "some disks is none of the VM",
                code="snapshot.format",
                hint='--external; or qemu-img convert -O qcow2, and format = "qcow2"; or one of the volume below',
            )
    if not written:
        raise PlanRefused("snapshot: no disk of this VM can be written", code="snapshot.read-only")
    return written


def _stopped(vm: VmDir, disks: Sequence[Disk], what: str, name: str) -> list[Snapshot]:
    vm.lock()
    try:
        refuse_moved(vm)
        for disk in disks:
            check_disk(disk)
        before = _listed(disks)
        _agree(before, disks, what, name)
        option = {"create": "-c", "delete": "-d", "revert": "-a"}.get(what)
        for disk in disks if option is not None else ():
            qemu_img("snapshot", str(option), name, disk.path)
        if what == "revert":
            begin_epoch(vm, name, f"disk {', '.join(disk.name for disk in disks)} is")
        return _listed(disks)
    finally:
        vm.unlock()


def _agree(before: Sequence[Snapshot], disks: Sequence[Disk], what: str, name: str) -> None:
    """All disks have it, or none: otherwise nothing is done to any."""
    having = {item.disk for item in before if item.name == name}
    if what == "create" and having:
        raise WrongState(f"snapshot {name}: disk {', '.join(sorted(having))} has one of that name")
    if what in ("delete", "revert") and not having:
        raise NotFound(f"no snapshot {name!r}", hint="cvm snapshot list")
    if what == "revert" and len(having) != len(disks):
        raise WrongState(
            f"snapshot {name}: only disk {', '.join(sorted(having))} has it; reverting one would mix times"
        )


def _listed(disks: Sequence[Disk]) -> list[Snapshot]:
    found = []
    for disk in disks:
        document: dict[str, Any] = json.loads(qemu_img("info", "--output=json", "-f", "qcow2", disk.path))
        found += [
            Snapshot(disk.name, str(item["name"]), int(item["date-sec"]), int(item["vm-state-size"]))
            for item in document.get("snapshots", [])
        ]
    return found


def _thoughts(config: VmConfig, what: str) -> list[str]:
    """What a snapshot means for a disk whose guest trusts nobody."""
    secret = [disk.name for disk in config.disks if disk.resource is not None and not disk.readonly]
    if not secret or what not in ("create", "revert"):
        return []
    names = ", ".join(secret)
    if what == "create":
        return [f"disk {names}: whoever has this snapshot can bring the disk back to it, and no guest can tell"]
    return [
        f"disk {names}: the guest now sees an older state and cannot tell: what it changed since then is undone. Give "
        " the disk's data new secrets, or store its key under a new name and reference, if that matters"
    ]
