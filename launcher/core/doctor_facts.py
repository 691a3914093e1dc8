"""What ``cvm doctor`` reads beyond the planner's needs. ``None`` always means: could not be read."""

from __future__ import annotations

from policy.named import NamedTuple


class SnpFirmware(NamedTuple):
    """SNP_PLATFORM_STATUS (SEV-SNP ABI, 8.3): API version, whether the RMP is initialised, guests, two TCB words."""

    api: tuple[int, int]
    rmp: bool
    guests: int
    current_tcb: int
    reported_tcb: int


class DeepFacts(NamedTuple):
    """``config``: the kernel's options by name, ``config_file`` where from. ``kernel_log``: lines, newest last.

    ``asids``: ECX (number) and EDX (first that is not for SEV-ES) of CPUID 0x8000001F. ``misc``: misc.capacity and
    misc.current by resource. ``devices``: wanted device nodes, empty text when usable, else the reason.
    ``settings``: files below /sys and /proc/sys by short name. ``sockets``: quote services by path, text as devices.
    ``programs``: of those a network may need, which are installed.
    """

    kernel: tuple[int, int]
    config: dict[str, str] | None
    config_file: str
    cmdline: str
    kernel_log: tuple[str, ...] | None
    asids: tuple[int, int] | None
    misc: dict[str, tuple[int, int | None]]
    devices: dict[str, str]
    settings: dict[str, str | None]
    iommu_groups: int
    iommu_domains: tuple[str, ...]
    swap: bool | None
    controllers: tuple[str, ...] | None
    snp: SnpFirmware | None
    sockets: dict[str, str]
    year: int
    programs: frozenset[str] = frozenset()
