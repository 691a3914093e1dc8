"""The decisions of a plan in words: what was chosen and why, and what the owner should think about twice."""

from __future__ import annotations

from launcher.core.caution import Caution
from launcher.core.facts import FirmwareFacts, HostFacts
from launcher.core.hardware_words import hardware_decisions
from launcher.core.lifecycle import IN_PLACE, RELAUNCH, STOP
from launcher.core.network_words import network_decisions, network_warnings
from launcher.core.refusals import hardware_warnings
from launcher.core.spec import VmSpec
from launcher.core.storage_rules import storage_decisions, storage_warnings
from launcher.core.td import TD_PLATFORMS, td_decisions
from launcher.core.vm import POLICY_SWITCHES, Disk, SnpSettings, VmConfig, guest_policy
from policy.named import NamedTuple
from policy.vocab import Platform


class Decision(NamedTuple):
    """One choice: ``what`` = ``value``, because of ``reason``."""

    what: str
    value: str
    reason: str


_WRITTEN = "the VM file says so"
_PLATFORM = {
    Platform.SEV_SNP: "memory and registers are encrypted by the AMD chip, which measures and signs",
    Platform.EMULATED_SNP: "NOT PROTECTED: an emulated chip measures and signs; for machines without the hardware",
    Platform.TDX: "memory and registers are encrypted; Intel's TDX module measures, its quoting enclave signs",
    Platform.EMULATED_TDX: "NOT PROTECTED: a TPM in software measures, an emulated quoting enclave signs",
    Platform.NONE: "NOT PROTECTED: an ordinary VM, nothing is measured",
}

_REBOOT = {
    RELAUNCH: "a guest that reboots gets a new QEMU, a line in the ledger, and attests again",
    IN_PLACE: "the same QEMU launches a guest that reboots anew, after a line in the ledger; it attests again",
}
_LIGHT = "qboot starts a kernel that the host unpacked (PVH): no UEFI, no option ROMs, nothing unpacked in the guest"


def decide(
    config: VmConfig,
    host: HostFacts,
    spec: VmSpec,
    firmware: FirmwareFacts | None,
    accel: tuple[str, str],
) -> tuple[Decision, ...]:
    """The choices of ``spec`` in the order a reader wants them."""
    chosen = [
        Decision("platform", config.platform.value, _PLATFORM.get(config.platform, _WRITTEN)),
        Decision("accelerator", *accel),
        Decision("machine", spec.machine_type, "versioned: the alias q35 would change with QEMU"),
        Decision("cpu", f"{spec.vcpus} × {spec.cpu_model}", _cpu_reason(config)),
        Decision("memory", f"{spec.memory >> 20} MiB", _WRITTEN),
        Decision("firmware", *_firmware(firmware, spec)),
    ]
    if config.light:
        chosen[-1] = Decision("profile", "light", _LIGHT)
    if config.platform is Platform.SEV_SNP:
        source = "CPUID 0x8000001F of this host" if host.c_bit is not None else "every EPYC's; this host did not say"
        chosen.append(Decision("c-bit", str(spec.snp.c_bit if spec.snp else ""), source))
    if config.platform in TD_PLATFORMS:
        chosen += [Decision(*item) for item in td_decisions(config)]
    elif config.platform is not Platform.NONE:
        chosen.append(Decision("guest policy", f"{guest_policy(config.snp):#x}", _policy_reason(config.snp)))
    if spec.hash_table_gpa is not None:
        where = f"{spec.hash_table_gpa:#x}"
        chosen.append(Decision("boot hash table", where, "address in the firmware's footer; the firmware enforces it"))
    chosen += [Decision(f"disk {disk.name}", disk.copies[0].shown, _disk_reason(disk)) for disk in config.disks]
    chosen += [Decision(*item) for item in storage_decisions(config)]
    if config.lifecycle.on_reboot != STOP:
        chosen.append(Decision("reboot", config.lifecycle.on_reboot, _REBOOT[config.lifecycle.on_reboot]))
    return (
        *chosen,
        *(Decision(*item) for item in hardware_decisions(config)),
        *(Decision(*item) for item in network_decisions(config, spec)),
    )


def warnings(config: VmConfig, host: HostFacts) -> tuple[Caution, ...]:
    """What is allowed but deserves a second look."""
    found = []
    snp = config.platform in (Platform.SEV_SNP, Platform.EMULATED_SNP)
    if config.snp.debug and snp:
        found.append(Caution("snp.debug", "snp.debug = true: the host can decrypt this guest's memory"))
    if config.snp.migrate_ma and snp:
        why = "snp.migrate_ma = true: a migration agent may move this guest to another machine"
        found.append(Caution("snp.migration-agent", why))
    if host.memory_available is not None and config.memory > host.memory_available:
        why = f"memory: {config.memory >> 20} MiB asked for, {host.memory_available >> 20} MiB available on this host"
        found.append(Caution("memory.short", why))
    if config.cpu.vcpus > host.cpus:
        found.append(Caution("cpu.overcommitted", f"cpu.count: {config.cpu.vcpus} vCPUs on {host.cpus} processors"))
    return (*found, *network_warnings(config), *hardware_warnings(config), *storage_warnings(config))


def _cpu_reason(config: VmConfig) -> str:
    if config.platform is Platform.NONE:
        return _WRITTEN
    if config.platform in TD_PLATFORMS:
        return "the count is part of RTMR0; a TD has no named model"
    return "count and model are part of the launch digest"


def _firmware(firmware: FirmwareFacts | None, spec: VmSpec) -> tuple[str, str]:
    if firmware is None:
        return "SeaBIOS", "boots a kernel directly, fastest" if spec.kernel else "QEMU's own; no OVMF.fd found"
    return firmware.path, f"{firmware.origin}; sha256:{firmware.sha256}"


def _policy_reason(settings: SnpSettings) -> str:
    default = SnpSettings()
    allowed = [name for name in POLICY_SWITCHES if getattr(settings, name)]
    changed = [name for name in POLICY_SWITCHES if getattr(settings, name) != getattr(default, name)]
    text = f"on: {', '.join(allowed) or 'nothing'}"
    return f"{text}; not the default: {', '.join(changed)}" if changed else f"{text} (the safe default)"


def _disk_reason(disk: Disk) -> str:
    if disk.verity is not None:
        return (
            f"hash tree; the measured command line holds its root {disk.verity.root_hash[:16]}…, so no byte can change"
        )
    if disk.resource is None:
        return "not encrypted: the host can read and change it"
    return f"LUKS2; key kbs:///{disk.resource} is released after attestation only"
