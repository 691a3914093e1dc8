"""VmConfig × HostFacts × tools -> LaunchPlan: every decision with its reason, and the command line that follows.

Pure: planning works on any machine, for hardware it does not have. What keeps *this* host from running the plan is
listed in ``blockers``; what no host could run raises :class:`PlanRefused`.
"""

from __future__ import annotations

from launcher.core.argv import qemu_options
from launcher.core.capability import Finding, blockers, findings, qemu_lacks, smt_agrees, td_tools, tpm_tool
from launcher.core.caution import Caution
from launcher.core.cautions import cautions
from launcher.core.cmdline import CommandLine, compose
from launcher.core.facts import FirmwareFacts, HostFacts, QemuFacts
from launcher.core.hardware import Placement
from launcher.core.lifecycle import IN_PLACE
from launcher.core.network import first_cid
from launcher.core.qemu_features import Capabilities
from launcher.core.refusals import refuse_options, refuse_platform
from launcher.core.spec import IdBlockFiles, LightFiles, SnpLaunch, VmSpec
from launcher.core.timeouts import Budget, budget
from launcher.core.vm import TD_PLATFORMS, TdxSettings, VmConfig, guest_policy
from launcher.errors import PlanRefused
from policy.named import NamedTuple
from policy.vocab import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.core.decisions import Decision
    from launcher.core.measurement import MeasureInputs
    from launcher.core.topology import HostTopology
    from policy.initdata import InitDataText

_HARDWARE = {Platform.SEV_SNP: ("SEV-SNP", "emulated-snp"), Platform.TDX: ("TDX", "emulated-tdx")}
DEFAULT_C_BIT = 51
"""Every EPYC since 7001 that was ever seen; a host that differs says so in CPUID and QEMU checks it."""


class EmulatorPlan(NamedTuple):
    """How the emulated chip is started; ``host_data`` has 32 bytes."""

    state: str
    policy: int
    host_data: bytes


class TdEmulatorPlan(NamedTuple):
    """How an emulated TD is started: the folder of its platform's keys, and what its quotes will show."""

    state: str
    settings: TdxSettings


class Surroundings(NamedTuple):
    """What is known besides the VM file. ``firmware`` is ``None`` only for platform none without a firmware file.

    ``ca_der``: the CA certificate, DER. ``chip_state``: the default folder of the emulated chip. ``id_block``:
    contents of the files the VM names. ``kernel_signed``: the kernel carries a signature, whoever made it.
    ``swtpm``: there is a TPM in software. ``light``: the files of a light VM.
    ``topology``: of a VM with a placement; ``taken``: processors that other VMs' vCPUs are pinned to.
    ``init_data``: to which the configuration is bound already.
    """

    host: HostFacts
    qemu: QemuFacts
    firmware: FirmwareFacts | None
    ca_der: bytes | None
    chip_state: str
    id_block: IdBlockFiles | None = None
    kernel_signed: bool = False
    swtpm: bool = True
    light: LightFiles | None = None
    topology: HostTopology | None = None
    taken: frozenset[int] = frozenset()
    init_data: InitDataText | None = None


class Chosen(NamedTuple):
    """What the decisions of a plan are told from, besides its ``spec``: the file and what is around it, why this
    accelerator, the words of the command line and of the placement.
    """

    config: VmConfig
    around: Surroundings
    accel_reason: str
    line: CommandLine | None
    placed: tuple[tuple[str, str, str], ...]


class LaunchPlan(NamedTuple):
    """Everything ``cvm launch`` will do. ``options`` follow ``qemu.argv``; QEMU runs inside the VM's state folder.

    What is measured: ``measure`` of an SEV-SNP launch, ``spec`` itself of a TD.
    """

    spec: VmSpec
    qemu: QemuFacts
    options: tuple[str, ...]
    chosen: Chosen
    warnings: tuple[Caution, ...]
    blockers: tuple[Finding, ...]
    budget: Budget
    measure: MeasureInputs | None
    emulator: EmulatorPlan | None
    attests: bool
    td_emulator: TdEmulatorPlan | None = None
    placement: Placement = Placement()
    storage_options: tuple[str, ...] = ()
    """Of the storage daemon; empty when no disk is on a network."""
    init_data: InitDataText | None = None

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """Every choice with its reason, put into words when somebody asks: QEMU needs none to start."""
        from launcher.core.decisions import decisions

        return decisions(self)

    @property
    def storage_argv(self) -> tuple[str, ...]:
        """The storage daemon's whole command."""
        return (*self.qemu.program("qemu-storage-daemon"), *self.storage_options)

    @property
    def argv(self) -> tuple[str, ...]:
        """The whole command."""
        return (*self.qemu.argv, *self.options)


def make_plan(config: VmConfig, around: Surroundings) -> LaunchPlan:
    """Decide everything. Paths in ``config`` are absolute already."""
    _refuse(config, around)
    firmware = around.firmware
    accel, accel_reason = _accelerator(config, around.host)
    line = compose(config, around.ca_der) if config.boot.kernel is not None else None
    spec = _spec(config, around, accel, line)
    placement, placed, doubts = _placement(config, around)
    tools, storage_options = _storage(config, around.qemu, spec)
    return LaunchPlan(
        spec=spec,
        qemu=around.qemu,
        options=qemu_options(spec),
        chosen=Chosen(config, around, accel_reason, line, placed),
        warnings=(*cautions(config, around.host, spec, firmware), *doubts),
        blockers=blockers(
            (
                *findings(around.host, around.qemu, firmware),
                *td_tools(firmware, swtpm=around.swtpm),
                *smt_agrees(around.host, allowed=config.snp.smt),
                *tpm_tool(wanted=config.devices.tpm, there=around.swtpm),
                *tools,
                *qemu_lacks(config, around.qemu),
            ),
            config.platform,
        ),
        budget=budget(
            config.memory,
            config.cpu.vcpus,
            accel=accel,
            eager_memory=config.platform in _HARDWARE,
            td=config.platform is Platform.TDX,
        ),
        measure=_measure(config, firmware, line),
        emulator=_emulator(config, around.chip_state),
        attests=config.attestation is not None,
        td_emulator=_td_emulator(config, around.chip_state),
        placement=placement,
        storage_options=storage_options,
        init_data=around.init_data,
    )


def _measure(config: VmConfig, firmware: FirmwareFacts | None, line: CommandLine | None) -> MeasureInputs | None:
    if firmware is None or config.platform in (*TD_PLATFORMS, Platform.NONE):
        return None
    from launcher.core.inputs import measure_inputs

    return measure_inputs(config, firmware.path, line)


def _placement(
    config: VmConfig, around: Surroundings
) -> tuple[Placement, tuple[tuple[str, str, str], ...], tuple[Caution, ...]]:
    """(placement, decisions, warnings)."""
    if around.topology is None:
        return config.placement, (), ()
    from launcher.core.placing import resolve  # few VMs have a place of their own

    return resolve(config, around.topology, around.taken)


def _refuse(config: VmConfig, around: Surroundings) -> None:
    refuse_options(config, around.qemu)
    _refuse_other_firmware(config.boot.firmware_sha256, around.firmware)
    refuse_platform(config, around.firmware, kernel_signed=around.kernel_signed)
    if config.disks:
        from launcher.core.storage_rules import refuse_storage

        refuse_storage(config)


def _refuse_other_firmware(pinned: str | None, firmware: FirmwareFacts | None) -> None:
    """An update of the host's packages must not change what a VM boots, and measures, without its owner's word."""
    if pinned is None or (firmware is not None and firmware.sha256 == pinned):
        return
    found = "no firmware file" if firmware is None else f"{firmware.path}, sha256 {firmware.sha256}"
    raise PlanRefused(
        f"boot.firmware: got {found}, want sha256 {pinned}",
        code="firmware.pinned",
        hint="cvm diff shows what another firmware changes; then pin the new one",
    )


def _storage(config: VmConfig, qemu: QemuFacts, spec: VmSpec) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """What disks and shared folders need beside QEMU, and the storage daemon's options."""
    if not config.disks and not config.shares:
        return (), ()
    from launcher.core.argv.storage_daemon import daemon_options
    from launcher.core.storage_rules import storage_tools

    return storage_tools(config, qemu), daemon_options(spec)


def _accelerator(config: VmConfig, host: HostFacts) -> tuple[str, str]:
    if config.platform in _HARDWARE:
        name, emulated = _HARDWARE[config.platform]
        if config.accel == "tcg":
            raise PlanRefused(
                f'accel = "tcg": {name} is a feature of KVM', code="accel.tcg", hint=f'use platform = "{emulated}"'
            )
        return "kvm", f"{name} is a feature of KVM"
    if config.accel != "auto":
        return config.accel, "the VM file says so"
    if not host.kvm.present:
        return "tcg", "no /dev/kvm on this host"
    if host.kvm.problem:
        return "tcg", host.kvm.problem
    return "kvm", "/dev/kvm works"


def _spec(config: VmConfig, around: Surroundings, accel: str, line: CommandLine | None) -> VmSpec:
    firmware = around.firmware
    snp = None
    if config.platform is Platform.SEV_SNP:
        c_bit = around.host.c_bit if around.host.c_bit is not None else DEFAULT_C_BIT
        snp = SnpLaunch(
            guest_policy(config.snp), c_bit, config.snp.host_data, around.id_block, config.snp.vcek_disabled
        )
    emulated = config.platform is Platform.EMULATED_SNP
    light = around.light
    return described(config, accel, around.qemu.can)._replace(
        firmware=light.firmware if light else firmware.path if firmware else None,
        kernel=light.kernel if light else config.boot.kernel,
        initrd=light.initrd if light else config.boot.initrd,
        cmdline=line.text if line is not None else None,
        snp=snp,
        hash_table_gpa=firmware.hash_table_gpa if emulated and firmware is not None else None,
    )


def described(config: VmConfig, accel: str, qemu: Capabilities) -> VmSpec:
    """What the VM file alone says of the machine: everything but firmware, boot files and SNP's launch."""
    return VmSpec(
        name=config.name,
        platform=config.platform,
        accel=accel,
        qemu=qemu,
        memory=config.memory,
        vcpus=config.cpu.vcpus,
        cpu_model=config.cpu.model,
        firmware=None,
        kernel=None,
        initrd=None,
        cmdline=None,
        disks=config.disks,
        throttles=config.throttles,
        net=config.net,
        snp=None,
        hash_table_gpa=None,
        tdx=config.tdx if config.platform is Platform.TDX else None,
        runs_commands=bool(config.operators),
        bus_locks=config.limits.bus_locks if accel == "kvm" else None,
        has_init_data=config.init_data is not None,
        in_place=config.lifecycle.on_reboot == IN_PLACE,
        vsock_cid=None if config.vsock is None else config.vsock.cid or first_cid(config.name),
        sockets=config.cpu.sockets,
        threads=config.cpu.threads,
        features=config.cpu.features,
        ram=config.ram,
        numa=config.numa,
        devices=config.devices,
        passthrough=config.passthrough,
        shares=config.shares,
    )


def _emulator(config: VmConfig, default_state: str) -> EmulatorPlan | None:
    if config.platform is not Platform.EMULATED_SNP:
        return None
    return EmulatorPlan(config.emulator_state or default_state, guest_policy(config.snp), config.snp.host_data)


def _td_emulator(config: VmConfig, default_state: str) -> TdEmulatorPlan | None:
    if config.platform is not Platform.EMULATED_TDX:
        return None
    return TdEmulatorPlan(config.emulator_state or default_state, config.tdx)
