"""Snapshots of raw disks, by overlays beside them: what is written after a snapshot goes into a layer of its own.

Of a stopped VM only, with its lock held. Every step can be cut off: an overlay is there before the record names it, and
goes after the record has forgotten it; merging a layer down changes nothing of what the disk shows.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress

from launcher.core.vm import TD_PLATFORMS, Disk, VmConfig
from launcher.errors import NotFound, PlanRefused, StorageFailed, WrongState
from launcher.io.disk_files import check_layer
from launcher.io.layers import MOST, Layer, is_written, read_layers, write_layers
from launcher.io.statedir import VmDir
from launcher.service.epochs import begin_epoch
from launcher.service.qemu_img import qemu_img
from policy import plain_json

Chains = dict[str, tuple[Layer, ...]]
"""What lies over each disk, by the disk's path."""


def is_layered(disks: Sequence[Disk]) -> bool:
    """Whether these disks can have snapshots by overlays: all are local raw files."""
    return all(
        disk.format == "raw" and disk.network is None and disk.replicas is None and not disk.copies[0].is_device
        for disk in disks
    )


def change(vm: VmDir, config: VmConfig, disks: Sequence[Disk], what: str, name: str) -> list[tuple[str, Layer]]:
    """``create``, ``list``, ``delete`` or ``revert``; what there is afterwards, by disk. The VM's lock is held."""
    chains = {disk.path: read_layers(disk.path) for disk in disks}
    having = [disk for disk in disks if any(item.name == name for item in chains[disk.path])]
    for disk in disks if what != "list" else ():
        _refuse_unfit(disk, chains[disk.path])
    if what == "create":
        _refuse_measured(config, disks)
        if having:
            raise WrongState(f"snapshot {name}: disk {having[0].name} has one of that name")
        _create(disks, chains, name)
    elif what == "revert":
        if len(having) != len(disks):
            raise _missing(name, having)
        begin_epoch(vm, name, f"disk {', '.join(disk.name for disk in disks)} is")
        for disk in disks:
            _revert(disk, chains, name)
    elif what == "delete":
        if not having:
            raise _missing(name, having)
        for disk in having:
            _delete(disk, chains, name)
    return [(disk.name, item) for disk in disks for item in chains[disk.path]]


def _missing(name: str, having: Sequence[Disk]) -> NotFound | WrongState:
    if not having:
        return NotFound(f"no snapshot {name!r}", hint="cvm snapshot list")
    names = ", ".join(disk.name for disk in having)
    return WrongState(f"snapshot {name}: only disk {names} has it; reverting one would mix times")


def _refuse_unfit(disk: Disk, layers: Sequence[Layer]) -> None:
    """Another VM may have the same disk in its file; and qemu-img, unlike QEMU, has no jail."""
    for layer in layers:
        check_layer(layer.file)
    top, _ = _under(disk.path, layers)
    if is_written(top):
        raise WrongState(f"snapshot: disk {disk.name}: {top} is written by another QEMU", hint="cvm ps")


def _refuse_measured(config: VmConfig, disks: Sequence[Disk]) -> None:
    if config.platform in TD_PLATFORMS and config.boot.kernel is None and disks[0] is config.disks[0]:
        raise PlanRefused(
            f"snapshot: disk {disks[0].name}: a TD boots from it and is measured from its bytes",
            code="snapshot.measured-disk",
        )
    for disk in disks:
        if len(read_layers(disk.path)) >= MOST:
            raise WrongState(f"snapshot: disk {disk.name} has {MOST} already", hint="cvm snapshot delete")


def _create(disks: Sequence[Disk], chains: Chains, name: str) -> None:
    now = int(time.time())
    fresh = {disk.path: Layer(name, _empty(disk.path, chains[disk.path], name), now) for disk in disks}
    for path, layer in fresh.items():
        chains[path] = (*chains[path], layer)
        write_layers(path, chains[path])


def _revert(disk: Disk, chains: Chains, name: str) -> None:
    """An empty layer in place of the snapshot's and all later ones, which go with their snapshots."""
    before = chains[disk.path]
    at = next(number for number, item in enumerate(before) if item.name == name)
    kept = before[:at]
    fresh = before[at]._replace(file=_empty(disk.path, kept, name))
    chains[disk.path] = (*kept, fresh)
    write_layers(disk.path, chains[disk.path])
    _drop(before[at:])


def _delete(disk: Disk, chains: Chains, name: str) -> None:
    """Merge the snapshot's layer into what it lies on; the state the snapshot was of is gone."""
    before = chains[disk.path]
    at = next(number for number, item in enumerate(before) if item.name == name)
    qemu_img("commit", "-d", f"json:{plain_json.dumps(_chain(disk.path, before[: at + 1]))}")
    chains[disk.path] = before[:at] + before[at + 1 :]
    write_layers(disk.path, chains[disk.path])
    for above in before[at + 1 : at + 2]:
        under, kind = _under(disk.path, before[:at])
        qemu_img("rebase", "-u", "-f", "qcow2", "-F", kind, "-b", under, above.file)
    _drop(before[at : at + 1])


def _chain(path: str, layers: Sequence[Layer]) -> dict[str, object]:
    """These layers over the disk, by the record alone."""
    node: dict[str, object] = {"driver": "raw", "file": {"driver": "file", "filename": path}}
    for item in layers:
        node = {"driver": "qcow2", "file": {"driver": "file", "filename": item.file}, "backing": node}
    return node


def _under(path: str, layers: Sequence[Layer]) -> tuple[str, str]:
    """What the next layer lies on, and its format."""
    return (layers[-1].file, "qcow2") if layers else (path, "raw")


def _empty(path: str, below: Sequence[Layer], name: str) -> str:
    """A new overlay; its header names what is below it for other programs, ours go by the record."""
    under, kind = _under(path, below)
    for number in range(1000):
        file = f"{path}.{name}{'' if number == 0 else f'.{number}'}.qcow2"
        if not os.path.lexists(file):
            break
    else:
        raise StorageFailed(f"{path}.{name}.qcow2: a thousand of that name are there already")
    qemu_img("create", "-q", "-f", "qcow2", "-F", kind, "-b", under, file)
    return file


def _drop(layers: Sequence[Layer]) -> None:
    for item in layers:
        with suppress(FileNotFoundError):
            os.unlink(item.file)
