"""What a QEMU can do, as named features, and which of them a VM needs. Pure.

A name says where a QEMU itself reports the feature, so `launcher.core.qemu_answers` needs no rule for each:

    object:TYPE[.MEMBER]     QAPI ``object-add``              blockdev:DRIVER    QAPI ``blockdev-add``
    netdev:TYPE              QAPI ``netdev_add``              aio:WORD           the ``aio`` of a file node
    device:TYPE[.PROPERTY]   QOM, ``device-list-properties``  type:NAME          any other QOM type
    machine:PROPERTY         of the newest q35 machine        option:NAME[.KEY]  ``query-command-line-options``

NamedTuples: on the start-up path of ``cvm measure``.
"""

from __future__ import annotations

from launcher.core.hardware import IOMMUFD
from launcher.core.lifecycle import IN_PLACE
from launcher.core.network import PASST
from policy.named import NamedTuple
from policy.vocab import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from launcher.core.vm import VmConfig

MONITOR_OBJECT = "object:monitor-qmp"
PROTECTED_RESET = "machine:x-change-vmfd-on-reset"
"""Came with the reset of protected guests, which no schema names (QEMU 11.0, ``hw/core/machine.c``)."""
FOLLOWS_CONVERSIONS = "type:ram-block-attributes"
"""Through it VFIO learns which pages turn private or shared (QEMU 10.1, ``system/ram-block-attributes.c``)."""
KVM = "type:kvm-accel"
IGVM = "object:igvm-cfg"
REQUEST_CERTIFICATES = "object:sev-snp-guest.certs-path"

_MEMORY = ("object:memory-backend-memfd", "machine:memory-backend", "machine:confidential-guest-support")
_SNP = tuple(
    f"object:sev-snp-guest{member}"
    for member in ("", ".cbitpos", ".reduced-phys-bits", ".policy", ".kernel-hashes", ".host-data", ".id-block",
                   ".id-auth", ".author-key-enabled")
)  # fmt: skip
_TDX = tuple(
    f"object:tdx-guest{member}"
    for member in ("", ".attributes", ".mrconfigid", ".mrowner", ".mrownerconfig", ".quote-generation-socket")
)
PLATFORM_NEEDS = {Platform.SEV_SNP: (KVM, *_MEMORY, *_SNP), Platform.TDX: (KVM, *_MEMORY, *_TDX)}

FEATURES: dict[str, tuple[int, int] | None] = {
    **dict.fromkeys((KVM, "type:tcg-accel", *_MEMORY, *_SNP, "object:sev-snp-guest.vcek-disabled"), (9, 1)),
    **dict.fromkeys((*_TDX, IGVM, FOLLOWS_CONVERSIONS), (10, 1)),
    **dict.fromkeys((
        "object:iommufd.fd", "object:iothread", "object:rng-builtin", "object:secret.file",
        "object:throttle-group.limits", "object:memory-backend-memfd.hugetlbsize",
        "blockdev:file", "blockdev:host_device", "blockdev:luks", "blockdev:nbd", "blockdev:qcow2", "blockdev:quorum",
        "blockdev:raw", "blockdev:throttle", "aio:io_uring", "aio:native", "aio:threads",
        "netdev:stream", "netdev:tap", "netdev:user",
        "device:ich9-ahci", "device:e1000", "device:e1000e", "device:ide-hd", "device:nvme", "device:piix3-ide",
        "device:qemu-xhci", "device:tpm-crb", "device:usb-tablet", "device:VGA", "device:vfio-pci.fd",
        "device:vfio-pci.iommufd", "device:vfio-pci.vf-token", "device:vhost-vsock-pci.vhostfd",
        "device:vhost-user-fs-pci.tag", "device:virtio-balloon-pci.free-page-reporting",
        "device:virtio-blk-pci.iommu_platform",
        "device:virtio-net-pci.iommu_platform", "device:virtio-rng-pci.iommu_platform",
        "device:virtio-scsi-pci.iommu_platform", "device:virtio-serial-pci.iommu_platform",
        "machine:bus-lock-ratelimit", "machine:hpet", "machine:sata", "machine:smbus", "machine:smm", "machine:vmport",
        "option:sandbox.spawn", "option:run-with.user",
    ), (9, 1)),
    PROTECTED_RESET: (11, 0),
    MONITOR_OBJECT: (11, 1),
    REQUEST_CERTIFICATES: None,
}  # fmt: skip
"""Every feature asked for, and the QEMU whose documents name it first (9.1: that or an older one; ``None``: none
so far). A build may leave features out: igvm-cfg needs a library that Debian does not have.
"""


class Capabilities(NamedTuple):
    """What one QEMU can do. ``machine``: its newest versioned q35. ``source``: who said so, for a person. ``build``:
    the binary's build id, empty if it has none.
    """

    version: tuple[int, ...]
    machine: str
    features: frozenset[str]
    source: str
    build: str = ""

    def has(self, feature: str) -> bool:
        """Whether it has ``feature``. A name nobody asks a QEMU for would never be there: KeyError."""
        if feature not in FEATURES:
            raise KeyError(feature)
        return feature in self.features

    def lacks(self, *wanted: str) -> tuple[str, ...]:
        """Those of ``wanted`` that are not there."""
        return tuple(feature for feature in wanted if not self.has(feature))

    @property
    def version_text(self) -> str:
        """Such as ``11.1.3``."""
        return ".".join(map(str, self.version))


NO_QEMU = Capabilities((0, 0), "pc-q35-0.0", frozenset(), "no QEMU on this machine")


def needed(config: VmConfig) -> Iterator[tuple[str, str]]:
    """(option of the VM file, feature) for everything the file asks of QEMU beyond its platform."""
    yield from _disks(config)
    yield from _network(config)
    yield from _memory_and_devices(config)
    if config.platform is Platform.SEV_SNP and config.snp.vcek_disabled:
        yield "snp.vcek_disabled", "object:sev-snp-guest.vcek-disabled"
    if config.platform is not Platform.NONE and config.lifecycle.on_reboot == IN_PLACE:
        yield "lifecycle.on_reboot", PROTECTED_RESET


_BUS = {
    "virtio": ("device:virtio-blk-pci.iommu_platform",),
    "scsi": ("device:virtio-scsi-pci.iommu_platform",),
    "nvme": ("device:nvme",),
    "sata": ("device:ich9-ahci", "device:ide-hd"),
    "ide": ("device:piix3-ide", "device:ide-hd"),
}


def _disks(config: VmConfig) -> Iterator[tuple[str, str]]:
    for disk in config.disks:
        for feature in _BUS[disk.bus]:
            yield "disk.bus", feature
        yield "disk.aio", f"aio:{disk.aio}"
        for copy in disk.copies:
            if copy.network is not None:
                yield "disk", "blockdev:nbd"
            else:
                yield "disk.format", f"blockdev:{copy.format}"
        if disk.throttle is not None:
            yield "disk.throttle", "blockdev:throttle"
            yield "disk.throttle", "object:throttle-group.limits"
        if disk.replicas is not None:
            yield "disk.replica", "blockdev:quorum"
        if disk.iothread:
            yield "disk.iothread", "object:iothread"


def _network(config: VmConfig) -> Iterator[tuple[str, str]]:
    net = config.net
    if net is not None:
        kind = "tap" if net.wire else "stream" if net.backend == PASST else "user"
        yield "net.kind", f"netdev:{kind}"
        yield "net.model", "device:virtio-net-pci.iommu_platform" if net.model == "virtio" else f"device:{net.model}"
    if config.vsock is not None:
        yield "vsock", "device:vhost-vsock-pci.vhostfd"


def _memory_and_devices(config: VmConfig) -> Iterator[tuple[str, str]]:
    ram, devices = config.ram, config.devices
    for wanted, where, feature in (
        (ram.huge_pages > 0, "ram.huge_pages", "object:memory-backend-memfd.hugetlbsize"),
        (config.limits.bus_locks is not None, "limits.bus_locks", "machine:bus-lock-ratelimit"),
        (ram.has_balloon, "ram.balloon", "device:virtio-balloon-pci.free-page-reporting"),
        (devices.rng, "devices.rng", "object:rng-builtin"),
        (devices.rng, "devices.rng", "device:virtio-rng-pci.iommu_platform"),
        (devices.usb_tablet, "devices.usb_tablet", "device:usb-tablet"),
        (devices.video == "std", "devices.video", "device:VGA"),
        (bool(config.shares), "share", "device:vhost-user-fs-pci.tag"),
        (devices.tpm or config.platform is Platform.EMULATED_TDX, "devices.tpm", "device:tpm-crb"),
    ):
        if wanted:
            yield where, feature
    for item in config.passthrough:
        if item.backend == IOMMUFD:
            yield "passthrough", "object:iommufd.fd"
            yield "passthrough", "device:vfio-pci.iommufd"
            yield "passthrough", "device:vfio-pci.fd"
        if item.vf_token is not None:
            yield "passthrough.vf_token", "device:vfio-pci.vf-token"
