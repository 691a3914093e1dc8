"""What the launcher found out about this host, as values: collected by ``launcher.io.host``, judged by pure code."""

from __future__ import annotations

from launcher.core.qemu_features import Capabilities
from policy.named import NamedTuple


class KvmFacts(NamedTuple):
    """``/dev/kvm``. ``vm_types`` is KVM_CAP_VM_TYPES (bit 0 ordinary, 4 SEV-SNP, 5 TDX), ``None`` if not asked.

    ``problem`` is empty when an ordinary VM can be expected to run; a device that opens is not enough: without the
    svm or vmx flag nothing that starts in 16-bit mode gets anywhere.
    """

    present: bool
    problem: str
    vm_types: int | None = None

    def has_type(self, bit: int) -> bool:
        """Whether KVM offers VM type ``bit``."""
        return bool((self.vm_types or 0) >> bit & 1)


VM_TYPE_SNP, VM_TYPE_TDX = 4, 5


class HostFacts(NamedTuple):
    """One machine. ``None`` means: could not be read. Memory in bytes.

    ``sev_snp`` and ``tdx`` are the module parameters of kvm_amd and kvm_intel; ``c_bit`` is CPUID 0x8000001F EBX[5:0];
    ``sev_device`` says what is wrong with ``/dev/sev``, empty if nothing; ``smt``: cores run several threads now;
    ``numa_balancing`` is the sysctl.
    """

    kvm: KvmFacts
    vendor: str
    flags: frozenset[str]
    cpus: int
    memory_total: int | None
    memory_available: int | None
    kernel: str
    sev_snp: str | None
    tdx: str | None
    c_bit: int | None
    sev_device: str
    cgroup_v2: bool
    smt: bool | None = None
    numa_balancing: str | None = None


TOOLS = ("qemu-img", "qemu-storage-daemon")
MODULES = ("iscsi", "nfs", "rbd")
"""Sources of disks whose driver is a module of its own (Debian's qemu-block-extra)."""
VIRTIOFSD, VIRTIOFSD_PATH = "virtiofsd", "../libexec/virtiofsd"
"""The daemon of shared folders; from the folder of QEMU's binary."""
EXTRAS = (*TOOLS, *MODULES, VIRTIOFSD)
"""What may be beside a QEMU, or be missing."""


class QemuFacts(NamedTuple):
    """The QEMU to start: ``(*argv, *options)`` with ``env`` added. ``source`` is ``system``, ``cache``, or ``shipped``
    for one that is not here. ``can``: what it said it can do. ``extras``: which of QEMU's tools (``qemu-img``) and
    block modules (``rbd``) are beside it.
    """

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    version: tuple[int, ...]
    source: str
    can: Capabilities
    extras: frozenset[str] = frozenset()

    @property
    def _command(self) -> tuple[str, ...]:
        """Without the folders it is told to look into."""
        return self.argv[: self.argv.index("-L")] if "-L" in self.argv else self.argv

    @property
    def binary(self) -> str:
        """QEMU's own file, whatever starts it."""
        return self._command[-1]

    def program(self, name: str) -> tuple[str, ...]:
        """How another of QEMU's programs is started: it lies beside QEMU, and behind the same loader."""
        folder, slash, _ = self.binary.rpartition("/")
        return (*self._command[:-1], f"{folder}{slash}{name}")

    @property
    def version_text(self) -> str:
        """Such as ``11.1.3``."""
        return ".".join(map(str, self.version))


class FirmwareFacts(NamedTuple):
    """A firmware file, read and parsed. ``hash_table_gpa`` is where its footer wants the boot hash table.

    ``measures_kernel`` says whether it has a measured section around that table. ``origin`` says who chose it.
    ``starts_td``: it has TDX metadata, without which no TD can start. ``secure_boot``: it has keys enrolled, so it
    starts signed images only.
    """

    path: str
    sha256: str
    hash_table_gpa: int | None
    measures_kernel: bool
    origin: str
    starts_td: bool = False
    secure_boot: bool = False
    lazy: bool | None = None
    """It can leave memory for the kernel to accept; ``None``: not looked at, or unknown."""
