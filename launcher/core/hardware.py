"""What an operator may choose about processors, memory and devices: ``[placement]``, ``[ram]``,
``[[numa]]``, ``[devices]``, ``[[passthrough]]`` and ``[[share]]``. Sizes in bytes; lists of processors as text such as
``0-3,8``.
"""

from __future__ import annotations

from policy.named import NamedTuple

DIMM = 128 << 20
"""Linux adds memory in blocks of 128 MiB (x86-64 ``SECTION_SIZE_BITS`` 27)."""


class Placement(NamedTuple):
    """Where threads run. ``vcpus``: one list for each vCPU, or empty. ``auto``: choose from the host's topology.

    ``mems``: host NUMA nodes for all memory of the process, private pages too. ``smt_isolation``: no thread of another
    process beside a vCPU on one core (core scheduling). ``l3_ways``: of every last-level cache, 0 for all.
    """

    auto: bool = False
    vcpus: tuple[str, ...] = ()
    io: str | None = None
    emulator: str | None = None
    mems: str | None = None
    smt_isolation: bool = False
    l3_ways: int = 0


MODULES, VIRTIO_MEM = "modules", "virtio-mem"
"""How memory grows: by whole modules (ACPI), or by blocks of one device that asks the guest for each."""


class Ram(NamedTuple):
    """How memory is backed. ``huge_pages``: their size, 0 for none. ``max``: to what it can grow, by ``grow``."""

    huge_pages: int = 0
    allow_double_memory: bool = False
    prealloc: bool = False
    merge: bool = False
    balloon: bool = False
    free_page_reporting: bool = False
    overcommit: bool = True
    max: int | None = None
    slots: int = 4
    grow: str = MODULES

    @property
    def by_device(self) -> bool:
        """Whether it can grow through virtio-mem."""
        return self.max is not None and self.grow == VIRTIO_MEM

    @property
    def filled(self) -> bool:
        """Whether all of it is there before the guest starts."""
        return self.prealloc or self.huge_pages > 0

    @property
    def has_balloon(self) -> bool:
        """Whether there is a balloon device: it also carries free-page reporting."""
        return self.balloon or self.free_page_reporting


class NumaNode(NamedTuple):
    """A NUMA node the guest sees: vCPUs, memory, and the host node its memory comes from (``None``: any)."""

    cpus: str
    memory: int
    host: int | None = None


class Devices(NamedTuple):
    """Devices for guests that need them."""

    rng: bool = False
    usb_tablet: bool = False
    video: str = "none"
    tpm: bool = False


IOMMUFD, GROUP = "iommufd", "group"


class Passthrough(NamedTuple):
    """A PCI function of the host: a whole device, an NVMe controller or an SR-IOV function. ``vf_token``: a UUID."""

    address: str
    backend: str = IOMMUFD
    vf_token: str | None = None


class Share(NamedTuple):
    """A folder of the host (``path``) that the guest mounts by its ``tag``: ``mount -t virtiofs TAG /mnt``."""

    path: str
    tag: str
    readonly: bool = True


FIRST_SHARE_FD = 120
"""Under this and the following numbers QEMU finds the connections to the shares' daemons."""
IOMMU_FD, FIRST_DEVICE_FD = 80, 81
"""Under these numbers QEMU finds ``/dev/iommu`` and the devices' files open: in its root there is no ``/sys``."""
