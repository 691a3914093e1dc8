"""The decisions of a plan in words: what was chosen and why."""

from __future__ import annotations

from launcher.core.facts import FirmwareFacts, QemuFacts
from launcher.core.hardware_words import hardware_decisions
from launcher.core.init_data import init_data_decisions
from launcher.core.lifecycle import IN_PLACE, RELAUNCH, STOP
from launcher.core.network_words import network_decisions
from launcher.core.spec import VmSpec
from launcher.core.storage_rules import storage_decisions
from launcher.core.td import td_decisions
from launcher.core.vm import POLICY_SWITCHES, TD_PLATFORMS, Disk, SnpSettings, VmConfig, guest_policy
from policy.named import NamedTuple
from policy.vocab import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.core.plan import LaunchPlan


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


def decisions(plan: LaunchPlan) -> tuple[Decision, ...]:
    """Every choice of ``plan``, in the order a reader wants them."""
    config, around, _, line, placed = plan.chosen
    words = [*_machine(plan), ("qemu", *_which(around.qemu))]
    if line is not None:
        words += line.choices
    if config.snp.id_block is not None:
        words.append(("ID block", config.snp.id_block, "the chip refuses any other image or guest policy"))
    words += (*init_data_decisions(config, around.init_data), *placed)
    return tuple(Decision(*item) for item in words)


def _machine(plan: LaunchPlan) -> list[tuple[str, str, str]]:
    """The choices of ``plan.spec``."""
    config, host, firmware, spec = plan.chosen.config, plan.chosen.around.host, plan.chosen.around.firmware, plan.spec
    words = [
        ("platform", config.platform.value, _PLATFORM.get(config.platform, _WRITTEN)),
        ("accelerator", spec.accel, plan.chosen.accel_reason),
        ("machine", spec.machine_type, "versioned: the alias q35 would change with QEMU"),
        ("cpu", f"{spec.vcpus} × {spec.cpu_model}", _cpu_reason(config)),
        ("memory", f"{spec.memory >> 20} MiB", _WRITTEN),
        ("profile", "light", _LIGHT) if config.light else ("firmware", *_firmware(firmware, spec)),
    ]
    if config.platform is Platform.SEV_SNP:
        source = "CPUID 0x8000001F of this host" if host.c_bit is not None else "every EPYC's; this host did not say"
        words.append(("c-bit", str(spec.snp.c_bit if spec.snp else ""), source))
    if config.platform in TD_PLATFORMS:
        words += td_decisions(config)
    elif config.platform is not Platform.NONE:
        words.append(("guest policy", f"{guest_policy(config.snp):#x}", _policy_reason(config.snp)))
    if spec.hash_table_gpa is not None:
        where = f"{spec.hash_table_gpa:#x}"
        words.append(("boot hash table", where, "address in the firmware's footer; the firmware enforces it"))
    words += [(f"disk {disk.name}", disk.copies[0].shown, _disk_reason(disk)) for disk in config.disks]
    words += storage_decisions(config)
    if config.lifecycle.on_reboot != STOP:
        words.append(("reboot", config.lifecycle.on_reboot, _REBOOT[config.lifecycle.on_reboot]))
    return [*words, *hardware_decisions(config), *network_decisions(config, spec)]


def _which(qemu: QemuFacts) -> tuple[str, str]:
    can = qemu.can
    if qemu.source == "shipped":
        return f"{can.version_text} (not here)", f"options by what this release knows of it: {can.source}"
    return (
        f"{qemu.version_text} ({qemu.source})",
        f"options by the {len(can.features)} features it reports: {can.source}",
    )


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
