"""What no host could run: options that only an ordinary VM may have, each with a stable id and the reason, and launches
that their firmware or platform cannot do.

All options are found at once. Emulated platforms are held to the rules of the hardware they stand for.
Sources: QEMU 11.1 ``hw/core/machine.c``, ``backends/hostmem.c``, ``target/i386/kvm/tdx.c``; Linux 7.1
``virt/kvm/guest_memfd.c``; QEMU's "VFIO device assignment" and "IOMMUFD" documents.
"""

from __future__ import annotations

from launcher.core.caution import Caution
from launcher.core.facts import FirmwareFacts, QemuFacts
from launcher.core.hardware import GROUP
from launcher.core.lifecycle import IN_PLACE
from launcher.core.qemu_features import FOLLOWS_CONVERSIONS, PROTECTED_RESET
from launcher.core.vm import TD_PLATFORMS, VmConfig
from launcher.errors import PlanRefused
from policy.named import NamedTuple
from policy.vocab import Platform

_HARDWARE = (Platform.SEV_SNP, Platform.TDX)


class Refusal(NamedTuple):
    """``id`` never changes its meaning; ``where`` is the option's path."""

    id: str
    where: str
    why: str


class OptionsRefused(PlanRefused):
    """Everything in the file that this kind of VM cannot have; ``refusals`` lists it."""

    code = "plan.options-refused"

    def __init__(self, refusals: tuple[Refusal, ...], platform: Platform) -> None:
        lines = "\n".join(f"  {item.id}: {item.where}: {item.why}" for item in refusals)
        instead = "" if platform is Platform.NONE else ', or use platform = "none" where nothing is secret'
        super().__init__(f"refused for platform {platform.value}:\n{lines}", hint=f"leave them out{instead}")
        self.refusals = refusals


_DOUBLE = (
    "private memory has 4 KiB pages, and what is filled of the shared half is never given back when a page turns "
    "private: the VM would cost twice its memory"
)
_RULES = (
    ("ram.merge", "ram.merge", "encrypted pages never equal each other, and QEMU turns merging off; on a shared "
     "host merging is a side channel besides"),
    ("ram.balloon", "ram.balloon", "the host cannot reclaim guest_memfd pages by ballooning: a balloon frees the "
     "shared half only, private pages stay"),
    ("ram.free-page-reporting", "ram.free_page_reporting", "the host cannot reclaim guest_memfd pages: what the guest "
     "reports as free stays private and allocated"),
    ("ram.hot-plug", "ram.max", "pages must be accepted by the guest and are measured or validated at launch; memory "
     "that appears later only enlarges the address map"),
    ("ram.virtio-mem", "ram.grow", "the host's device would hand memory out and take it back block by block: the guest "
     "would have to accept each, nothing measures which, and private pages do not go back to the host"),
    ("numa.guest-nodes", "numa", "QEMU binds the shared half only; use placement.mems, which binds private "
     "memory too"),
    ("devices.video", "devices.video", "the host would see the guest's screen"),
    ("shares.confidential", "share", "what the host shows in a folder is neither secret nor authentic, names "
     "included, and its daemon would work on the guest's memory; data for a guest belongs on an encrypted disk, in the "
     "measured root file system (disk.verity) or behind its key"),
    ("devices.tpm", "devices.tpm", "a TPM in software is the host's, who can change what it remembers; the guest shows "
     "evidence of its own"),
)  # fmt: skip


def refuse_options(config: VmConfig, qemu: QemuFacts) -> None:
    """Raise :class:`OptionsRefused` with everything that is refused."""
    found = (*_everywhere(config), *(() if config.platform is Platform.NONE else _confidential(config, qemu)))
    if found:
        raise OptionsRefused(found, config.platform)


def _in_place(config: VmConfig, qemu: QemuFacts) -> tuple[Refusal, ...]:
    """Of a confidential VM only."""
    if config.lifecycle.on_reboot != IN_PLACE:
        return ()
    where = "lifecycle.on_reboot"
    if config.platform not in _HARDWARE:
        why = 'an emulated chip measures one launch only; "relaunch" starts another'
        return (Refusal("lifecycle.in-place-emulated", where, why),)
    if not qemu.can.has(PROTECTED_RESET):
        why = f'QEMU {qemu.version_text} cannot reset a protected guest, 11.0 can; "relaunch" works with any'
        return (Refusal("lifecycle.in-place-qemu", where, why),)
    return ()


def _everywhere(config: VmConfig) -> tuple[Refusal, ...]:
    if config.platform is not Platform.NONE:
        return ()
    off = config.isolation.mode == "off"
    found: tuple[Refusal, ...] = ()
    if config.shares and off:
        why = "nothing else confines the daemon that opens the folder for the guest; take [isolation] mode out"
        found += (Refusal("shares.isolation-off", "share", why),)
    if off or not any(item.backend == GROUP for item in config.passthrough):
        return found
    why = 'group VFIO has QEMU read /sys, which is not in its root; use iommufd, or [isolation] mode = "off"'
    return (*found, Refusal("passthrough.group-isolated", "passthrough.backend", why))


def _confidential(config: VmConfig, qemu: QemuFacts) -> tuple[Refusal, ...]:
    ram = config.ram
    asked = {
        "ram.merge": ram.merge,
        "ram.balloon": ram.balloon,
        "ram.free-page-reporting": ram.free_page_reporting,
        "ram.hot-plug": ram.max is not None and not ram.by_device,
        "ram.virtio-mem": ram.by_device,
        "numa.guest-nodes": bool(config.numa),
        "devices.video": config.devices.video != "none",
        "devices.tpm": config.devices.tpm,
        "shares.confidential": bool(config.shares),
    }
    found = [Refusal(*rule) for rule in _RULES if asked[rule[0]]]
    for id_, where, wanted in (
        ("ram.huge-pages", "ram.huge_pages", ram.huge_pages > 0),
        ("ram.prealloc", "ram.prealloc", ram.prealloc),
    ):
        if wanted and not ram.allow_double_memory:
            found.append(Refusal(id_, where, f"{_DOUBLE}; ram.allow_double_memory = true accepts that"))
    if config.platform in TD_PLATFORMS and config.cpu.sockets > 1:
        found.append(Refusal("cpu.sockets", "cpu.sockets", "a TD has one socket"))
    return (*found, *_in_place(config, qemu), *_passed(config, qemu))


def _passed(config: VmConfig, qemu: QemuFacts) -> tuple[Refusal, ...]:
    if not config.passthrough:
        return ()
    found = []
    if any(item.backend == GROUP for item in config.passthrough):
        why = "group VFIO blocks the discarding that private memory needs; use iommufd"
        found.append(Refusal("passthrough.group", "passthrough.backend", why))
    if not qemu.can.has(FOLLOWS_CONVERSIONS):
        why = f"QEMU {qemu.version_text} does not follow pages that turn private or shared; 10.1 does"
        found.append(Refusal("passthrough.qemu", "passthrough", why))
    if config.platform not in _HARDWARE:
        why = "an emulated platform encrypts nothing, so a device in it proves nothing"
        found.append(Refusal("passthrough.emulated", "passthrough", why))
    return tuple(found)


def refuse_platform(config: VmConfig, firmware: FirmwareFacts | None, *, kernel_signed: bool) -> None:
    """Raise :class:`PlanRefused` where file or firmware lack what a launch of this platform needs on every host."""
    if config.platform is Platform.NONE:
        return
    if config.platform in TD_PLATFORMS:
        from launcher.core.td import refuse_td

        refuse_td(config, firmware, kernel_signed=kernel_signed)
        return
    if firmware is None or not firmware.measures_kernel:
        path = "none found" if firmware is None else firmware.path
        raise PlanRefused(
            f"firmware: {path}: no measured section for the boot hash table, so a kernel cannot be measured",
            code="firmware.no-hash-table",
            hint='use OVMF.amdsev.fd (firmware = "auto" finds it)',
        )
    if config.platform is Platform.EMULATED_SNP and config.snp.id_block is not None:
        raise PlanRefused(
            "snp.id_block: the emulated chip checks no ID block",
            code="snp.id-block-emulated",
            hint='use platform = "sev-snp"',
        )
    if config.platform is Platform.EMULATED_SNP and config.snp.vcek_disabled:
        raise PlanRefused(
            "snp.vcek_disabled: the emulated chip signs with a VCEK only",
            code="snp.vcek-emulated",
            hint='use platform = "sev-snp"',
        )
    if config.platform is Platform.EMULATED_SNP and config.snp.guest_features != 1:
        raise PlanRefused(
            f"snp.guest_features: {config.snp.guest_features:#x}: the emulated chip starts vCPUs with 0x1 only",
            code="snp.guest-features-emulated",
        )


def hardware_warnings(config: VmConfig) -> list[Caution]:
    """What is allowed but deserves a second look."""
    ram, protected = config.ram, config.platform is not Platform.NONE
    twice = ram.allow_double_memory and bool(ram.huge_pages or ram.prealloc)
    size = f"{2 * config.memory >> 20} MiB"
    asked = (
        (protected and twice, "ram.double", f"ram: this VM takes twice its memory, {size}: {_DOUBLE}"),
        (protected and config.devices.usb_tablet, "devices.usb-tablet",
         "devices.usb_tablet: an emulated device is parsed by a driver that trusts it"),
        (protected and config.devices.rng, "devices.rng",
         "devices.rng: its numbers are the host's: the guest must not rely on them alone"),
        (protected and bool(config.passthrough), "passthrough.shared-memory",
         "passthrough: the device reaches shared memory only, and sees in clear what is there"),
        (ram.merge, "ram.merge-side-channel",
         "ram.merge: pages shared with other VMs tell their owners what this one holds (a side channel)"),
    )  # fmt: skip
    return [Caution(id_, text) for wanted, id_, text in asked if wanted]
