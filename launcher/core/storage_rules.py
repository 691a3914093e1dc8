"""What of the storage options a VM may have: each is carried out, warned about, or refused with the reason.

Pure. The refusals concern VMs whose memory the host must not see: options that would keep a secret on the host, lose
what the guest believes written, or that the guest's agent cannot use.
"""

from __future__ import annotations

from collections.abc import Iterator

from launcher.core.argv.disks import IDE_PORTS, SATA_PORTS
from launcher.core.capability import FAIL, OK, WARN, Finding
from launcher.core.caution import Caution
from launcher.core.facts import EXTRAS, MODULES, VIRTIOFSD, QemuFacts
from launcher.core.storage import KIND, Backing, IscsiSource, NbdSource, NfsSource, RbdSource, Throttle, describe
from launcher.core.vm import TD_PLATFORMS, Disk, VmConfig
from launcher.errors import PlanRefused
from policy.vocab import Platform

EMULATED_BUSES = ("nvme", "sata", "ide")
_NO_CRYPTO = "travels unencrypted and unauthenticated: whoever is on the way can read and change it"


def refuse_storage(config: VmConfig) -> None:
    """Raise :class:`PlanRefused` for the first disk that no host can give this VM."""
    for disk in config.disks:
        if config.platform is not Platform.NONE:
            _refuse_for_confidential(disk)
        if disk.resource is not None and disk.bus != "virtio":
            raise PlanRefused(
                f"disk {disk.name}: bus {disk.bus}: the guest's agent finds encrypted disks by their virtio-blk serial",
                code="storage.encrypted-bus",
                hint='bus = "virtio" (the default)',
            )
        if isinstance(disk.network, RbdSource) and disk.network.snapshot and not disk.readonly:
            raise PlanRefused(
                f"disk {disk.name}: an RBD snapshot can only be read",
                code="storage.rbd-snapshot",
                hint="readonly = true",
            )
    for bus, ports in (("sata", SATA_PORTS), ("ide", IDE_PORTS)):
        count = sum(1 for disk in config.disks if disk.bus == bus)
        if count > ports:
            raise PlanRefused(
                f"disk: {count} disks on bus {bus}, which has {ports} ports",
                code="storage.ports",
                hint='bus = "virtio"',
            )
    _refuse_unmeasured_boot(config)


def _refuse_for_confidential(disk: Disk) -> None:
    if disk.format == "luks":
        raise PlanRefused(
            f'disk {disk.name}: format = "luks": QEMU would hold the key on the host, so nothing is hidden from the '
            "host; only encryption inside the guest is",
            code="storage.luks-on-host",
            hint="cvm disk create makes a disk whose key the service keeps; it is a raw one with [disk.encrypted]",
        )
    if disk.cache == "unsafe" and not disk.allow_unsafe:
        raise PlanRefused(
            f'disk {disk.name}: cache = "unsafe" ignores the guest\'s flushes: after a crash of the host the guest '
            "finds an older state than it was promised, which encryption cannot tell from a rollback",
            code="storage.unsafe-cache",
            hint="another cache mode, or allow_unsafe = true for a disk whose loss does not matter",
        )


def _refuse_unmeasured_boot(config: VmConfig) -> None:
    """What a TD boots from a disk is predicted from the disk's bytes, so they must be at hand."""
    if config.platform not in TD_PLATFORMS or config.boot.kernel is not None or not config.disks:
        return
    first = config.disks[0]
    if first.layers:
        raise PlanRefused(
            f"disk {first.name}: a TD that boots from it is measured from its bytes, which are in several layers",
            code="storage.layered-boot",
            hint="cvm snapshot delete",
        )
    if first.network is not None or first.format != "raw":
        raise PlanRefused(
            f"disk {first.name}: a TD that boots from it is measured from its bytes before the start, want a local "
            "raw file or block device",
            code="storage.unmeasured-boot",
        )


def refuse_moving(disks: tuple[Disk, ...]) -> None:
    """For a VM that arrives while it runs: its storage daemon opens a disk that the other side still writes, so it may
    keep nothing of it: no image format's tables, no cache of librbd's. Raises :class:`PlanRefused`.
    """
    for disk in disks:
        if disk.layers:
            raise PlanRefused(
                f"disk {disk.name}: snapshots lie over it in layers",
                code="migration.layers",
                hint="cvm snapshot delete",
            )
        for backing in disk.copies:
            if backing.network is None:
                continue
            if backing.format != "raw":
                raise PlanRefused(
                    f"disk {disk.name}: {backing.format} on a network: its tables would be read here before "
                    "the other side has written them",
                    code="migration.image-format",
                    hint="a raw image; or move the VM by stopping it there and launching it here",
                )
            if isinstance(backing.network, RbdSource) and disk.cache not in ("none", "directsync"):
                raise PlanRefused(
                    f'disk {disk.name}: cache "{disk.cache}" on RBD: what librbd keeps here would be older than '
                    "what the other side writes",
                    code="migration.rbd-cache",
                    hint='cache = "none"',
                )


def storage_warnings(config: VmConfig) -> tuple[Caution, ...]:
    """What is allowed but deserves a second look."""
    return tuple(
        item for disk in config.disks for item in _warnings(disk, protected=config.platform is not Platform.NONE)
    )


def _warnings(disk: Disk, *, protected: bool) -> Iterator[Caution]:
    if protected and disk.bus in EMULATED_BUSES:
        yield Caution(
            "storage.emulated-bus",
            f"disk {disk.name}: bus {disk.bus}: an emulated device, parsed by the guest without an encryption-aware "
            "driver: slower, and more of the guest for the host to attack",
        )
    if disk.cache == "unsafe":
        why = f"disk {disk.name}: cache unsafe: a crash of the host loses what the guest was told is on disk"
        yield Caution("storage.cache-unsafe", why)
    for backing in disk.copies:
        network = backing.network
        if isinstance(network, (IscsiSource, NfsSource)):
            why = f"disk {disk.name}: {describe(network)} {_NO_CRYPTO}{_but(disk)}"
            yield Caution("storage.unauthenticated", why)
        elif isinstance(network, NbdSource) and network.server.host and network.tls is None:
            why = f"disk {disk.name}: {describe(network)} without TLS {_NO_CRYPTO}{_but(disk)}"
            yield Caution("storage.unauthenticated", why)
    if protected and disk.resource is None and not disk.readonly and disk.replicas is not None:
        yield Caution("storage.plain-copies", f"disk {disk.name}: every copy holds the guest's plain data")


def _but(disk: Disk) -> str:
    return " (ciphertext of the guest's, which can still be rolled back)" if disk.resource is not None else ""


def storage_decisions(config: VmConfig) -> Iterator[tuple[str, str, str]]:
    """(what, value, reason) of every disk's choices that are not the default."""
    for disk in config.disks:
        what = f"disk {disk.name}"
        if any(backing.network is not None for backing in disk.copies):
            yield what, "storage daemon", "keys, certificates and network stay out of the process the guest talks to"
        if disk.layers:
            yield what, f"{len(disk.layers)} layers", "snapshots: what was written since the newest is in the last"
        if disk.replicas is not None:
            how = "one is read" if disk.replicas.read_first else f"{disk.replicas.votes} must agree on a read"
            yield what, f"{len(disk.copies)} copies", f"quorum: written to all, {how}"
        if disk.cache != "writeback":
            yield what, f"cache {disk.cache}", _CACHE[disk.cache]
        if disk.aio != "threads":
            yield what, f"aio {disk.aio}", "requests go to the kernel without threads of QEMU's"
        if disk.bus != "virtio":
            yield what, f"bus {disk.bus}", "the VM file says so"
        if disk.iothread:
            priority = f", I/O priority {disk.io_priority}" if disk.io_priority else ""
            yield what, f"own I/O thread{priority}", "its requests do not wait for other devices"
        if disk.throttle is not None:
            yield what, *_throttled(config, disk)


def _throttled(config: VmConfig, disk: Disk) -> tuple[str, str]:
    if isinstance(disk.throttle, Throttle):
        return disk.throttle.shown, "its own limits; cvm throttle changes them"
    shared = next(item for item in config.throttles if item.name == disk.throttle)
    return shared.limits.shown, f"shared by all disks of group {shared.name}; cvm throttle changes them"


_CACHE = {
    "none": "past the host's page cache; flushes are the disk's",
    "writethrough": "every write is flushed before it is confirmed",
    "directsync": "past the host's page cache, every write flushed",
    "unsafe": "flushes are ignored",
}


def storage_tools(config: VmConfig, qemu: QemuFacts) -> tuple[Finding, ...]:
    """What this VM's disks and folders need besides QEMU: the daemon for network disks, a module for most sources,
    virtiofsd.
    """
    needed = sorted({_driver(backing) for disk in config.disks for backing in disk.copies} - {None}, key=str)
    found = []
    names = [*(("qemu-storage-daemon",) if needed else ()), *(str(item) for item in needed if item in MODULES)]
    for name in (*names, *((VIRTIOFSD,) if config.shares else ())):
        there = name in qemu.extras
        found.append(
            Finding(
                f"storage.{name}", OK if there else FAIL, "there" if there else "not among QEMU's files",
                "a disk of this VM is on a network" if name != VIRTIOFSD else "this VM has a [[share]]",
                "" if there else FIX, (config.platform.value,),
            )
        )  # fmt: skip
    return tuple(found)


def storage_findings(qemu: QemuFacts | None) -> tuple[Finding, ...]:
    """For `cvm doctor`: one for each tool and module beside this QEMU. What is missing blocks disks, no platform."""
    if qemu is None:
        return ()
    return tuple(
        Finding(
            f"storage.{name}", OK if name in qemu.extras else WARN, _SEEN[name in qemu.extras], _WHY[name],
            "" if name in qemu.extras else FIX, () if name in qemu.extras else (_BLOCKS[name],),
        )
        for name in EXTRAS
    )  # fmt: skip


_SEEN = {True: "beside this QEMU", False: "not beside this QEMU; raw, qcow2, block devices and luks are built in"}
_WHY = {
    "qemu-img": "snapshots of disks, and making qcow2 images",
    "qemu-storage-daemon": "opens network disks, so that QEMU needs no network; NBD is built into it",
    "iscsi": "disks on iSCSI",
    "nfs": "disks on NFS",
    "rbd": "disks on Ceph",
    VIRTIOFSD: "folders of the host in ordinary VMs",
}
_BLOCKS = {
    "qemu-img": "snapshots",
    "qemu-storage-daemon": "network disks",
    "iscsi": "iscsi",
    "nfs": "nfs",
    "rbd": "rbd",
    VIRTIOFSD: "shares",
}
FIX = "cvm image toolchain --storage, or apt install qemu-block-extra qemu-utils virtiofsd"


def _driver(backing: Backing) -> str | None:
    return None if backing.network is None else KIND[type(backing.network)]
