"""Disks: block nodes from the bottom up, throttle groups, I/O threads, and the device the guest sees.

A network source is opened by the storage daemon, not by QEMU: here it is an export on the daemon's socket
(``launcher.core.argv.storage_daemon``). Order of nodes: copies, quorum over several, throttle on top.
"""

from __future__ import annotations

from collections.abc import Iterator

from launcher.core.argv.nodes import Node, cache_members, file_node, format_node, layered_node
from launcher.core.argv.words import json_text
from launcher.core.names import STORAGE_SOCKET
from launcher.core.spec import VmSpec
from launcher.core.storage import IOTHREAD_BUSES, Throttle
from launcher.core.vm import Disk

VIRTIO = "disable-legacy=on,iommu_platform=on"
SATA_PORTS = 6
IDE_PORTS = 4


def disks(spec: VmSpec) -> tuple[str, ...]:
    """Everything about disks; a raw file needs one node and one device."""
    options = [word for item in spec.throttles for word in ("-object", _group(item.name, item.limits))]
    for number, disk in enumerate(spec.disks):
        options += _objects(disk, number)
        for node in nodes(disk, number):
            options += ["-blockdev", json_text(node)]
    for device in (*_controllers(spec), *(_device(spec, number) for number in range(len(spec.disks)))):
        options += ["-device", device]
    return tuple(options)


def throttle_object(disk: Disk) -> str | None:
    """The id of the throttle-group object that limits ``disk``."""
    if disk.throttle is None:
        return None
    return f"group-{disk.throttle}" if isinstance(disk.throttle, str) else f"limits-{disk.name}"


def _group(name: str, limits: Throttle) -> str:
    return json_text({"qom-type": "throttle-group", "id": f"group-{name}", "limits": limits.qapi()})


def _objects(disk: Disk, number: int) -> list[str]:
    found: list[Node] = []
    if disk.key_file is not None:
        found.append({"qom-type": "secret", "id": f"key-{disk.name}", "file": disk.key_file})
    if isinstance(disk.throttle, Throttle):
        limits = disk.throttle.qapi()
        found.append({"qom-type": "throttle-group", "id": f"limits-{disk.name}", "limits": limits})
    if disk.iothread:
        found.append({"qom-type": "iothread", "id": iothread(number)})
    return [word for item in found for word in ("-object", json_text(item))]


def iothread(number: int) -> str:
    """The id of disk ``number``'s I/O thread."""
    return f"iothread{number}"


def nodes(disk: Disk, number: int) -> Iterator[Node]:
    """The disk's nodes; each refers to those before it. The last one is what the device uses."""
    names = [f"node{number}" if copy == 0 else f"node{number}-{copy}" for copy in range(len(disk.copies))]
    for copy, name in enumerate(names):
        yield _copy(disk, copy, f"{number}-{copy}", name)
    top = names[0]
    if disk.replicas is not None:
        top = f"quorum{number}"
        pattern = "fifo" if disk.replicas.read_first else "quorum"
        yield {
            "driver": "quorum", "node-name": top, "read-only": disk.readonly, "children": names,
            "vote-threshold": disk.replicas.votes, "read-pattern": pattern,
        }  # fmt: skip
    group = throttle_object(disk)
    if group is not None:
        yield {"driver": "throttle", "node-name": f"throttle{number}", "throttle-group": group, "file": top}


def _copy(disk: Disk, copy: int, export: str, name: str) -> Node:
    backing = disk.copies[copy]
    if disk.layers:
        return layered_node(disk, name)
    if backing.network is None:
        return format_node(backing, disk, name, file_node(backing.path, disk, device=backing.is_device))
    file: Node = {"driver": "nbd", "server": {"type": "unix", "path": STORAGE_SOCKET}, "export": export}
    discard = "unmap" if disk.discard else "ignore"
    flush = cache_members(disk) if disk.cache == "unsafe" else {}
    return {"driver": "raw", "node-name": name, "read-only": disk.readonly, "discard": discard, **flush, "file": file}


def top_node(disk: Disk, number: int) -> str:
    """What the device uses."""
    return str(list(nodes(disk, number))[-1]["node-name"])


def _controllers(spec: VmSpec) -> Iterator[str]:
    """A SCSI controller per disk, so that each can have its own thread; one SATA or IDE controller for all."""
    for number, disk in enumerate(spec.disks):
        if disk.bus == "scsi":
            thread = f",iothread={iothread(number)}" if disk.iothread else ""
            yield f"virtio-scsi-pci,id=scsi{number},{VIRTIO}{thread}"
    if any(disk.bus == "sata" for disk in spec.disks):
        yield "ahci,id=sata0"
    if any(disk.bus == "ide" for disk in spec.disks):
        yield "piix3-ide,id=ide0"


def _device(spec: VmSpec, number: int) -> str:
    disk = spec.disks[number]
    drive = f"id=disk{number},drive={top_node(disk, number)},serial={disk.name}"
    if disk.cache in ("writethrough", "directsync"):
        drive += ",write-cache=off"
    place = sum(1 for other in spec.disks[:number] if other.bus == disk.bus)
    if disk.bus == "scsi":
        return f"scsi-hd,bus=scsi{number}.0,{drive}"
    if disk.bus == "nvme":
        return f"nvme,{drive}"
    if disk.bus == "sata":
        return f"ide-hd,bus=sata0.{place},{drive}"
    if disk.bus == "ide":
        return f"ide-hd,bus=ide0.{place // 2},unit={place % 2},{drive}"
    thread = f",iothread={iothread(number)}" if disk.iothread and disk.bus in IOTHREAD_BUSES else ""
    return f"virtio-blk-pci,{drive},{VIRTIO}{thread}"
