"""A VM with every choice made: what the command line is generated from."""

from __future__ import annotations

from launcher.core.hardware import Devices, NumaNode, Passthrough, Ram, Share
from launcher.core.network import Net
from launcher.core.qemu_features import Capabilities
from launcher.core.vm import Disk, SharedThrottle, TdxSettings
from policy.named import NamedTuple
from policy.vocab import Platform


class IdBlockFiles(NamedTuple):
    """ID block (96 bytes) and ID authentication (4096), and whether an author key is among the latter."""

    block: bytes
    auth: bytes
    author: bool


class SnpLaunch(NamedTuple):
    """The sev-snp-guest object's members. ``c_bit`` must be the host's; ``host_data`` has 32 bytes."""

    policy: int
    c_bit: int
    host_data: bytes
    id_block: IdBlockFiles | None = None
    vcek_disabled: bool = False


class LightFiles(NamedTuple):
    """What a light VM starts, absolute paths. ``firmware`` is qboot, ``kernel`` an ELF image with a PVH entry,
    ``initrd`` an unpacked cpio archive.
    """

    firmware: str
    kernel: str
    initrd: str | None


class VmSpec(NamedTuple):
    """Paths are absolute; sizes in bytes. ``firmware`` is ``None`` for QEMU's built-in SeaBIOS.

    ``hash_table_gpa``: where the emulated SNP platform injects the boot hash table. ``cmdline`` is complete.
    ``qemu``: what the QEMU that will run can do. ``tdx``: of platform tdx. ``vsock_cid``: the one wanted; the launch
    may find it taken.
    """

    name: str
    platform: Platform
    accel: str
    qemu: Capabilities
    memory: int
    vcpus: int
    cpu_model: str
    firmware: str | None
    kernel: str | None
    initrd: str | None
    cmdline: str | None
    disks: tuple[Disk, ...]
    net: Net | None
    snp: SnpLaunch | None
    hash_table_gpa: int | None
    tdx: TdxSettings | None = None
    vsock_cid: int | None = None
    sockets: int = 1
    threads: int = 1
    features: tuple[str, ...] = ()
    ram: Ram = Ram()
    numa: tuple[NumaNode, ...] = ()
    devices: Devices = Devices()
    passthrough: tuple[Passthrough, ...] = ()
    shares: tuple[Share, ...] = ()
    throttles: tuple[SharedThrottle, ...] = ()
    incoming: bool = False
    """Starts empty and waits for a VM that moves here."""
    runs_commands: bool = False
    bus_locks: int | None = None
    """Of a VM under KVM: so many in a second, then it waits."""
    has_init_data: bool = False
    in_place: bool = False
    """A guest that reboots, or ends, stands still until the launcher says what follows."""

    @property
    def machine_type(self) -> str:
        """A versioned one: the plain alias moves with QEMU, and with it what the guest sees."""
        return self.qemu.machine
