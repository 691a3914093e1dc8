"""A VM as its owner described it: the typed form of ``web-1.toml``. Values only; sizes in bytes, paths as written.

NamedTuples, not dataclasses: this module is on the start-up path of ``cvm measure``.
"""

from __future__ import annotations

from launcher.core.confinement_settings import IsolationSettings
from launcher.core.hardware import Devices, NumaNode, Passthrough, Placement, Ram, Share
from launcher.core.lifecycle import Lifecycle
from launcher.core.limits import Limits
from policy.named import NamedTuple
from policy.vocab import Platform, ResourcePath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.core.network import Net, Vsock
    from launcher.core.storage import Backing, Network, Replicas, Throttle


TD_PLATFORMS = (Platform.TDX, Platform.EMULATED_TDX)


class Cpu(NamedTuple):
    """vCPUs and the QEMU CPU model; both are measured on SEV-SNP. ``vcpus`` = sockets × cores × threads;
    ``features`` are ``+name`` or ``-name``.
    """

    vcpus: int = 1
    model: str = "EPYC-v4"
    sockets: int = 1
    threads: int = 1
    features: tuple[str, ...] = ()


class Boot(NamedTuple):
    """What the VM boots. ``firmware`` is a path or ``auto``; ``cmdline`` is the owner's part of the command line.
    ``firmware_sha256``: the only firmware it may be, in hexadecimal.
    """

    firmware: str = "auto"
    kernel: str | None = None
    initrd: str | None = None
    cmdline: str = ""
    firmware_sha256: str | None = None


class Verity(NamedTuple):
    """``[disk.verity]``: a root file system whose every byte follows from ``root_hash`` (64 hexadecimal digits) and
    ``blocks`` of 4096 bytes; both are measured.
    """

    blocks: int
    root_hash: str


class Disk(NamedTuple):
    """A disk. ``path``: a file or block device, empty for a ``network`` source. ``name`` is the device's serial;
    ``resource`` names the key of a disk that is encrypted for the guest. ``key_file``: of format ``luks``, which the
    host decrypts. ``throttle``: limits of its own or the name of a shared group.
    """

    path: str
    name: str
    resource: ResourcePath | None = None
    readonly: bool = False
    network: Network | None = None
    format: str = "raw"
    key_file: str | None = None
    cache: str = "writeback"
    aio: str = "threads"
    discard: bool = True
    bus: str = "virtio"
    iothread: bool = False
    io_priority: str | None = None
    allow_unsafe: bool = False
    throttle: Throttle | str | None = None
    replicas: Replicas | None = None
    verity: Verity | None = None
    layers: tuple[str, ...] = ()
    """Overlays of snapshots over a raw file, the oldest first; the newest is written. Not from the VM file: the record
    beside the disk says so."""

    @property
    def copies(self) -> tuple[Backing, ...]:
        """The disk's own and its replicas."""
        from launcher.core.storage import Backing  # a VM without disks is spared its import

        own = Backing(self.path, self.network, self.format)
        return (own,) if self.replicas is None else (own, *self.replicas.copies)


class SharedThrottle(NamedTuple):
    """``[[throttle]]``: one allowance that several disks use up together."""

    name: str
    limits: Throttle


class Attestation(NamedTuple):
    """The key service's ``https`` URL and the path of the one CA certificate (PEM) its server must chain to.

    ``pins``: thumbprints of keys that must have signed its answers (``answer.pin`` of the service).
    ``launch_record``: one of `LAUNCH_RECORDS`: whether this host's signed statement about a launch goes there, and
    whether a launch needs it.
    """

    service: str
    ca: str
    pins: tuple[str, ...] = ()
    launch_record: str = "send"


LAUNCH_RECORDS = ("send", "off", "required")


class Secret(NamedTuple):
    """A resource that the guest keeps as the file ``/run/cvm/secrets/NAME``, with owner, group and mode."""

    name: str
    resource: str
    uid: int = 0
    gid: int = 0
    mode: int = 0o400


class Guest(NamedTuple):
    """What the guest does after its disks are open: the payload's path on the first disk, and whether to power off.

    ``api`` are the parts of the REST interface it serves to programs inside, ``reattest`` seconds between attestations
    (0: none after the first). ``swiotlb``: bytes of its bounce buffers, ``None`` for the kernel's choice; ``console``:
    whether its kernel and programs have one.
    """

    run: str | None = None
    poweroff: bool = False
    api: tuple[str, ...] = ()
    reattest: int = 0
    secrets: tuple[Secret, ...] = ()
    swiotlb: int | None = None
    console: bool = True


class InitDataSource(NamedTuple):
    """The text the guest is handed and its launch is bound to: a ``file``, or one that names the VM, its ``service``
    and the only ``resources`` it shall get (``None``: no such list).
    """

    file: str | None = None
    vm: str = ""
    service: str | None = None
    resources: tuple[str, ...] | None = None


class SnpSettings(NamedTuple):
    """SEV-SNP launch fields. Permissions and demands are the Guest Policy's bits (``policy.snp.GuestPolicy``).

    Only ``smt`` is allowed by default, because a host with SMT on refuses a guest that forbids it. ``host_data``: 32
    bytes shown in every report. ``guest_features``: SEV_FEATURES the host kernel sets, part of the launch digest.
    ``id_block`` and ``id_auth``: files of `cvm idblock create`, both or neither. ``vcek_disabled``: reports are signed
    by the VLEK, or not at all.
    """

    smt: bool = True
    migrate_ma: bool = False
    debug: bool = False
    single_socket: bool = False
    cxl_allow: bool = False
    mem_aes_256_xts: bool = False
    rapl_dis: bool = False
    ciphertext_hiding: bool = False
    page_swap_disable: bool = False
    abi_min: tuple[int, int] = (0, 0)
    host_data: bytes = bytes(32)
    guest_features: int = 1
    id_block: str | None = None
    id_auth: str | None = None
    vcek_disabled: bool = False


class TdxSettings(NamedTuple):
    """TDX launch fields. The three identities are 48 bytes each; they are shown in every quote and mean what the owner
    makes them mean. ``processor_id``: 8 bytes, CPUID 1 EAX and EDX as the TD sees them, or ``None``; they are part of
    RTMR0 and only the owner knows on which processor the TD will run. ``quote_socket``: ``unix:PATH`` or
    ``vsock:CID:PORT`` of the quote generation service, ``None`` for a TD that makes no quotes.

    There is no debug switch: QEMU refuses TD attribute DEBUG.
    """

    sept_ve_disable: bool = True
    pks: bool = False
    perfmon: bool = False
    mrconfigid: bytes = bytes(48)
    mrowner: bytes = bytes(48)
    mrownerconfig: bytes = bytes(48)
    quote_socket: str | None = "unix:/var/run/tdx-qgs/qgs.socket"
    processor_id: bytes | None = None


class VmConfig(NamedTuple):
    """The whole file. ``accel``: ``auto``, ``kvm`` or ``tcg``. ``emulator_state``: a path, ``None`` for the default."""

    name: str
    platform: Platform
    memory: int
    accel: str = "auto"
    cpu: Cpu = Cpu()
    boot: Boot = Boot()
    disks: tuple[Disk, ...] = ()
    throttles: tuple[SharedThrottle, ...] = ()
    net: Net | None = None
    attestation: Attestation | None = None
    guest: Guest = Guest()
    snp: SnpSettings = SnpSettings()
    tdx: TdxSettings = TdxSettings()
    init_data: InitDataSource | None = None
    emulator_state: str | None = None
    lifecycle: Lifecycle = Lifecycle()
    isolation: IsolationSettings = IsolationSettings()
    limits: Limits = Limits()
    light: bool = False
    """A boot as short as it gets, of an ordinary VM: no UEFI, nothing unpacked inside the guest."""
    vsock: Vsock | None = None
    placement: Placement = Placement()
    ram: Ram = Ram()
    numa: tuple[NumaNode, ...] = ()
    devices: Devices = Devices()
    passthrough: tuple[Passthrough, ...] = ()
    shares: tuple[Share, ...] = ()
    operators: tuple[str, ...] = ()
    """Public keys of who may run commands in the attested guest (``[exec]``): base64url of Ed25519."""


_POLICY_BITS = {
    "smt": 16,
    "migrate_ma": 18,
    "debug": 19,
    "single_socket": 20,
    "cxl_allow": 21,
    "mem_aes_256_xts": 22,
    "rapl_dis": 23,
    "ciphertext_hiding": 24,
    "page_swap_disable": 25,
}

POLICY_SWITCHES = tuple(_POLICY_BITS)
"""Names of the Guest Policy's switches, in bit order."""


def guest_policy(settings: SnpSettings) -> int:
    """The 64-bit Guest Policy. Bit 17 is reserved and must be one (SEV-SNP ABI, "Guest Policy")."""
    value = 1 << 17 | settings.abi_min[0] << 8 | settings.abi_min[1]
    for name, bit in _POLICY_BITS.items():
        if getattr(settings, name):
            value |= 1 << bit
    return value


_TD_ATTRIBUTE_BITS = {"sept_ve_disable": 28, "pks": 30, "perfmon": 63}

TD_SWITCHES = tuple(_TD_ATTRIBUTE_BITS)
"""Names of the TD attributes an owner may choose, in bit order: those QEMU supports."""


def td_attributes(settings: TdxSettings) -> int:
    """The 64-bit TD ATTRIBUTES (TDX Module ABI, table "ATTRIBUTES"), as every quote will show them."""
    return sum(1 << bit for name, bit in _TD_ATTRIBUTE_BITS.items() if getattr(settings, name))
