"""Use case *plan*: read the VM file, look at the host, decide, measure. Changes nothing."""

from __future__ import annotations

import os

from launcher.core.admission import KeySlots, admission, key_slots
from launcher.core.cautions import LARGE
from launcher.core.facts import EXTRAS, FirmwareFacts, QemuFacts
from launcher.core.hardware import Placement
from launcher.core.names import CHIP_STATE, LAYERS
from launcher.core.plan import LaunchPlan, Surroundings, make_plan
from launcher.core.spec import LightFiles
from launcher.core.vm import TD_PLATFORMS, VmConfig, guest_policy
from launcher.io.firmware import find_firmware, is_signed
from launcher.io.host import probe_host
from launcher.io.qemu_file import shipped
from launcher.io.qemu_known import known_capabilities
from launcher.io.statedir import state_root
from launcher.io.toolchain import (
    BINARY_NAME,
    SYSTEM_DESCRIPTORS,
    SYSTEM_FIRMWARE,
    Toolchain,
    ToolchainMissing,
    find_toolchain,
    parse_version,
    qemu_extras,
)
from launcher.io.which import which
from launcher.service.neighbours import occupied, pinned_elsewhere
from launcher.service.vm_file import load_vm, read_ca
from policy.named import NamedTuple
from policy.vocab import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.core.measurement import MeasureInputs
    from launcher.core.spec import IdBlockFiles
    from launcher.core.topology import HostTopology
    from launcher.core.vm import SnpSettings
    from launcher.io.measurement import Measured
    from launcher.io.td_measurement import TdMeasured
    from policy.initdata import InitDataText


class Prepared(NamedTuple):
    """A plan and what will be measured: ``measured`` of an SEV-SNP launch, ``td`` of a TD. ``keys`` are the host's, for
    a VM that needs one.
    """

    config: VmConfig
    plan: LaunchPlan
    measured: Measured | None
    td: TdMeasured | None = None
    keys: KeySlots | None = None

    @property
    def launch_digest(self) -> str | None:
        """Lower-case hex, 96 digits."""
        found = self.measured or self.td
        return None if found is None else found.launch_digest.hex()

    @property
    def measurement(self) -> str | None:
        """Everything this launch is predicted to measure, in one text to compare: the launch digest, or MRTD and RTMRs
        (``-`` for one that is not predicted).
        """
        if self.td is None:
            return self.launch_digest
        registers = ("-" if value is None else value.hex() for value in self.td.prediction.rtmrs)
        return ":".join((str(self.launch_digest), *registers))

    def files(self) -> list[tuple[str, str, str]]:
        """(name, path or text, SHA-256 in hex) of everything measured; empty for a VM that nothing measures."""
        found = self.measured or self.td
        return [] if found is None else found.files()


def prepare(path: str, series: str | None = None) -> Prepared:
    """Everything up to the launch. Raises what its parts raise, before anything is started.

    ``series``: plan for another QEMU, one of `launcher.io.qemu_file.SHIPPED`; such a plan is only to look at.
    """
    config = _with_layers(load_vm(path))
    config, init_data = _bound(config)
    tools = find_toolchain() if series is None else tools_elsewhere(series)
    td = config.platform in TD_PLATFORMS
    around = Surroundings(
        host=probe_host(),
        qemu=qemu_facts(tools) if series is None else qemu_elsewhere(series),
        firmware=firmware_facts(config, tools),
        ca_der=read_ca(config),
        chip_state=f"{state_root()}/{CHIP_STATE}",
        id_block=None if config.snp.id_block is None else _id_block(config.snp),
        kernel_signed=td and config.boot.kernel is not None and is_signed(config.boot.kernel),
        swtpm=(td or config.devices.tpm) and _swtpm(),
        light=_light(config, tools),
        init_data=init_data,
        topology=None if config.placement == Placement() else _topology(),
        taken=pinned_elsewhere(config.name) if config.placement != Placement() else frozenset(),
    )
    plan = make_plan(config, around)
    others = occupied(config.name)
    full = admission(config, around.host.memory_total, others)
    plan = plan._replace(blockers=(*plan.blockers, *full))
    if config.passthrough:
        from launcher.service.passing import passthrough_findings

        missing, doubts = passthrough_findings(config, plan.placement)
        plan = plan._replace(blockers=(*plan.blockers, *missing), warnings=(*plan.warnings, *doubts))
    measured = None if plan.measure is None else _measured(plan.measure)
    if around.id_block is not None and measured is not None:
        from launcher.service.id_block import check_id_block

        check_id_block(around.id_block, measured.launch_digest, guest_policy(config.snp))
    found = _measured_td(plan, tools if series is None else None) if td else None
    return Prepared(config, plan, measured, found, key_slots(config, others))


def _with_layers(config: VmConfig) -> VmConfig:
    if not any(os.path.lexists(f"{disk.path}{LAYERS}") for disk in config.disks if disk.path):
        return config
    from launcher.io.layers import layered  # few disks have any

    return layered(config)


def _bound(config: VmConfig) -> tuple[VmConfig, InitDataText | None]:
    """The VM, bound to its init-data where it has some."""
    if config.init_data is None:
        return config, None
    from launcher.core.init_data import bound
    from launcher.service.init_data import read_init_data  # regular expressions and OpenSSL

    init_data = read_init_data(config)
    return bound(config, init_data), init_data


def _id_block(settings: SnpSettings) -> IdBlockFiles | None:
    from launcher.service.id_block import read_id_block

    return read_id_block(settings)


def _measured(inputs: MeasureInputs) -> Measured:
    from launcher.io.measurement import measure  # not on the way of a VM that nothing measures

    return measure(inputs)


def _measured_td(plan: LaunchPlan, tools: Toolchain | None) -> TdMeasured:
    from launcher.io.td_measurement import TdChoices, measure_td  # what it needs would double the start of other VMs

    return measure_td(plan.spec, tools, TdChoices())


def _swtpm() -> bool:
    return which("swtpm") is not None


def _topology() -> HostTopology:
    from launcher.io.topology import read_topology

    return read_topology()


def _light(config: VmConfig, tools: Toolchain) -> LightFiles | None:
    if not config.light or config.boot.kernel is None:
        return None
    from launcher.io.light import light_files

    return light_files(config.boot.kernel, config.boot.initrd, tools)


def qemu_facts(tools: Toolchain) -> QemuFacts:
    """The toolchain as the pure code wants it. Raises what `launcher.io.qemu_probe.probe_capabilities` raises."""
    env = tuple(sorted(tools.env.items()))
    can = known_capabilities(tools)
    return QemuFacts(tools.qemu_argv, env, parse_version(tools.version), tools.source, can, qemu_extras(tools))


def tools_elsewhere(series: str) -> Toolchain:
    """A QEMU of ``series`` that is not here, with the firmware that is: beside this machine's QEMU, or installed."""
    try:
        here = find_toolchain()
    except ToolchainMissing:
        here = Toolchain((BINARY_NAME,), {}, series, SYSTEM_FIRMWARE, SYSTEM_DESCRIPTORS, "shipped")
    return here._replace(qemu_argv=(BINARY_NAME,), env={}, version=series, source="shipped")


def qemu_elsewhere(series: str) -> QemuFacts:
    """That QEMU. Its tools and modules are taken to be beside it: they are packages of their own."""
    can = shipped(series)
    return QemuFacts((BINARY_NAME,), (), can.version, "shipped", can, frozenset(EXTRAS))


def firmware_facts(config: VmConfig, tools: Toolchain) -> FirmwareFacts | None:
    """The firmware this VM gets."""
    boots_kernel = config.boot.kernel is not None
    found = find_firmware(config.boot.firmware, config.platform, tools.firmware_dir, boots_kernel=boots_kernel)
    if found is None or config.memory < LARGE or config.platform not in (Platform.SEV_SNP, Platform.TDX):
        return found
    from launcher.io.firmware_accept import with_lazy

    return with_lazy(found, config.platform)
