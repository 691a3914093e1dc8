"""What this host can run: one finding per requirement, each with what was seen, why it matters and what fixes it.

Order of trust for SEV-SNP and TDX: the mask KVM itself answers (it is what QEMU tests), then the module parameter
(which says N when BIOS or kernel options are in the way), then the processor's flag (which may stay set although SNP is
off). Source: Linux ``Documentation/virt/kvm/api.rst`` KVM_CAP_VM_TYPES, ``arch/x86/kvm/svm/sev.c``.
"""

from __future__ import annotations

from launcher.core.facts import VM_TYPE_SNP, VM_TYPE_TDX, FirmwareFacts, HostFacts, QemuFacts
from launcher.core.qemu_features import FEATURES, PLATFORM_NEEDS, needed
from policy.named import NamedTuple
from policy.vocab import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.core.vm import VmConfig

OK, WARN, FAIL = "ok", "warn", "missing"
MINIMUM_QEMU = (10, 1)


class Finding(NamedTuple):
    """``state``: ok, warn, missing or skip. ``blocks``: the platforms that cannot run while it is missing."""

    id: str
    state: str
    seen: str
    why: str
    fix: str
    blocks: tuple[str, ...] = ()


def findings(host: HostFacts, qemu: QemuFacts | None, firmware: FirmwareFacts | None) -> tuple[Finding, ...]:
    """Every requirement but those of :func:`td_tools`, in the order in which one would fix them. ``firmware``: the one
    for SEV-SNP, or the VM's own.
    """
    return (*_kvm(host), *_snp(host), *_tdx(host), *_tools(qemu, firmware), *_limits(host))


def blockers(found: tuple[Finding, ...], platform: Platform) -> tuple[Finding, ...]:
    """The findings that keep a VM of ``platform`` from starting."""
    return tuple(item for item in found if item.state == FAIL and platform.value in item.blocks)


def _need(name: str, met: bool, seen: str, why: str, fix: str, blocks: tuple[str, ...]) -> Finding:
    return Finding(name, OK if met else FAIL, seen, why, "" if met else fix, blocks)


def _kvm(host: HostFacts) -> tuple[Finding, ...]:
    kvm = host.kvm
    why = "hardware virtualisation; without it QEMU emulates every instruction (10 to 50 times slower)"
    if not kvm.present:
        fix = "load kvm_amd or kvm_intel; switch on SVM or VT-x in the BIOS"
        return (Finding("kvm", WARN, "no /dev/kvm", why, fix),)
    if kvm.problem:
        return (Finding("kvm", WARN, kvm.problem, why, 'a host with nested virtualisation, or accel = "tcg"'),)
    return (Finding("kvm", OK, f"/dev/kvm works, VM types {kvm.vm_types or 0:#x}", why, ""),)


def _snp(host: HostFacts) -> tuple[Finding, ...]:
    blocks = (Platform.SEV_SNP.value,)
    flag = "sev_snp" in host.flags
    mask = "KVM was not asked" if host.kvm.vm_types is None else f"KVM_CAP_VM_TYPES {host.kvm.vm_types:#x}"
    return (
        _need(
            "snp.cpu", flag, "flag sev_snp" if flag else f"no flag sev_snp on {host.vendor or 'this processor'}",
            "SEV-SNP needs an AMD EPYC 7003 or newer, not itself virtualised",
            "use an EPYC host; switch on SEV-SNP, SNP memory coverage and ASIDs in the BIOS", blocks,
        ),
        _need(
            "snp.kvm", host.kvm.has_type(VM_TYPE_SNP), f"{mask}, kvm_amd.sev_snp={host.sev_snp or 'absent'}",
            "KVM must offer VM type 4 (SEV-SNP)",
            "Linux 6.11 or newer without iommu=pt; `dmesg | grep -i -e sev -e rmp` names what is in the way", blocks,
        ),
        _need(
            "snp.device", not host.sev_device, host.sev_device or "/dev/sev can be opened",
            "QEMU talks to the AMD firmware through /dev/sev", "modprobe ccp; setfacl -m u:$USER:rw /dev/sev", blocks,
        ),
    )  # fmt: skip


def smt_agrees(host: HostFacts, *, allowed: bool) -> tuple[Finding, ...]:
    """The Guest Policy's SMT bit of an SEV-SNP VM beside this host; nothing where it allows both states."""
    if allowed:
        return ()
    seen = {None: "the kernel does not say", True: "SMT is on", False: "SMT is off"}[host.smt]
    return (
        _need(
            "snp.smt", host.smt is not True, seen,
            "[snp] smt = false forbids SMT, and the firmware then refuses a launch on a host that has it on "
            "(Policy is not allowed)",
            "switch SMT off (BIOS, nosmt, /sys/devices/system/cpu/smt/control), or smt = true",
            (Platform.SEV_SNP.value,),
        ),
    )  # fmt: skip


def _tdx(host: HostFacts) -> tuple[Finding, ...]:
    blocks = (Platform.TDX.value,)
    flag = "tdx_host_platform" in host.flags
    mask = "KVM was not asked" if host.kvm.vm_types is None else f"KVM_CAP_VM_TYPES {host.kvm.vm_types:#x}"
    return (
        _need(
            "tdx.cpu", flag,
            "flag tdx_host_platform" if flag else f"no flag tdx_host_platform on {host.vendor or 'this processor'}",
            "TDX needs a Xeon of the fourth generation (some) or newer, not itself virtualised",
            "switch on TME-MT, SGX, TDX and the SEAM loader in the BIOS; `dmesg | grep virt/tdx` says what it found",
            blocks,
        ),
        _need(
            "tdx.kvm", host.kvm.has_type(VM_TYPE_TDX), f"{mask}, kvm_intel.tdx={host.tdx or 'absent'}",
            "KVM must offer VM type 5 (TDX)",
            "Linux 6.16 or newer with CONFIG_INTEL_TDX_HOST (Debian's kernels lack it), booted with kvm_intel.tdx=1 "
            "nohibernate", blocks,
        ),
    )  # fmt: skip


def _tools(qemu: QemuFacts | None, firmware: FirmwareFacts | None) -> tuple[Finding, ...]:
    snp = (Platform.SEV_SNP.value, Platform.EMULATED_SNP.value)
    emulated = (Platform.EMULATED_SNP.value, Platform.EMULATED_TDX.value)
    everything = (*snp, *emulated, Platform.TDX.value, Platform.NONE.value)
    new_enough = qemu is not None and qemu.version >= MINIMUM_QEMU
    return (
        _need(
            "qemu", new_enough, f"QEMU {qemu.version_text} ({qemu.source})" if qemu else "none that is new enough",
            "10.1 and newer hand any firmware the kernel file unpatched, which its hash covers; older ones do so for "
            "encrypted guests only",
            "cvm image toolchain, or apt install qemu-system-x86 (10.1 or newer)",
            everything if qemu is None else emulated,
        ),
        _need(
            "firmware", firmware is not None and firmware.measures_kernel,
            f"{firmware.path} sha256:{firmware.sha256[:16]}…" if firmware else "no OVMF.amdsev.fd",
            "measured direct boot needs a firmware with a measured section for the boot hash table",
            "cvm image toolchain, or apt install ovmf-amdsev", snp,
        ),
        *(() if qemu is None else _features(qemu)),
    )  # fmt: skip


def _features(qemu: QemuFacts) -> tuple[Finding, ...]:
    """What the very binary said it can do, and what of it the two kinds of hardware need."""
    can = qemu.can
    absent = can.lacks(*FEATURES)
    build = f", build {can.build[:12]}" if can.build else ""
    seen = f"{len(can.features)} of {len(FEATURES)} features asked of it{build}; not: {', '.join(absent) or 'none'}"
    every = Finding("qemu.features", OK, seen, f"options are chosen by what QEMU reports ({can.source})", "")
    return (every, *(_platform_features(qemu, platform) for platform in PLATFORM_NEEDS))


def _platform_features(qemu: QemuFacts, platform: Platform) -> Finding:
    missing = qemu.can.lacks(*PLATFORM_NEEDS[platform])
    objects = [name for name in PLATFORM_NEEDS[platform] if name.endswith("-guest")]
    seen = f"not in QEMU {qemu.version_text}: {', '.join(missing)}" if missing else f"{objects[0]} and its members"
    first = ".".join(map(str, FEATURES[objects[0]] or ()))
    return _need(
        f"qemu.{platform.value}", not missing, seen, "the object that protects memory, with every member that is set",
        f"QEMU {first} or newer, built for KVM: cvm image toolchain", (platform.value,),
    )  # fmt: skip


def qemu_lacks(config: VmConfig, qemu: QemuFacts) -> tuple[Finding, ...]:
    """What this VM's file asks for and this QEMU does not have; nothing where it has all."""
    wanted: dict[str, str] = {}
    for where, feature in needed(config):
        wanted.setdefault(feature, where)
    return tuple(
        Finding(
            "qemu.lacks", FAIL, f"QEMU {qemu.version_text} has no {feature}", f"{where} needs it",
            "another QEMU (cvm image toolchain fetches one), or leave the option out", (config.platform.value,),
        )
        for feature, where in wanted.items() if not qemu.can.has(feature)
    )  # fmt: skip


def td_tools(firmware: FirmwareFacts | None, *, swtpm: bool) -> tuple[Finding, ...]:
    """What only TDs need besides QEMU: their firmware, and for emulated ones a TPM in software."""
    return (
        _need(
            "firmware.tdx", firmware is not None and firmware.starts_td,
            f"{firmware.path} sha256:{firmware.sha256[:16]}…" if firmware else "no OVMF.fd beside this QEMU",
            "a TD starts in a firmware with TDX metadata", "cvm image toolchain, or apt install ovmf-generic",
            (Platform.TDX.value, Platform.EMULATED_TDX.value),
        ),
        _need(
            "swtpm", swtpm, "swtpm is installed" if swtpm else "no swtpm in PATH",
            "an emulated TD's registers are a TPM's, into which its firmware measures", "apt install swtpm",
            (Platform.EMULATED_TDX.value,),
        ),
    )  # fmt: skip


_LAZY = {True: "leaves memory to the kernel", False: "accepts all memory at once", None: "cannot be unpacked"}


def lazy_findings(snp: FirmwareFacts | None, td: FirmwareFacts | None) -> tuple[Finding, ...]:
    """Whether the firmware of each kind of hardware lets a large guest start quickly; it starts in any case."""
    why = "a guest of 64 GiB whose firmware accepts all memory takes more than 90 s before its kernel starts"
    fix = "a newer OVMF: cvm image toolchain"
    return tuple(
        Finding(
            name,
            OK if firmware.lazy else WARN,
            f"{firmware.path} {_LAZY[firmware.lazy]}",
            why,
            "" if firmware.lazy else fix,
        )
        for name, firmware in (("firmware.lazy-snp", snp), ("firmware.lazy-tdx", td))
        if firmware is not None
    )


def tpm_tool(*, wanted: bool, there: bool) -> tuple[Finding, ...]:
    """Of an ordinary VM with a TPM."""
    if not wanted:
        return ()
    seen = "swtpm is installed" if there else "no swtpm in PATH"
    return (
        _need("tpm", there, seen, "[devices] tpm is a TPM in software", "apt install swtpm", (Platform.NONE.value,)),
    )


def _limits(host: HostFacts) -> tuple[Finding, ...]:
    cgroup = Finding("cgroup", OK, "cgroup v2", "limits on memory, processors and I/O of a VM", "")
    if not host.cgroup_v2:
        fix = "boot with systemd.unified_cgroup_hierarchy=1"
        cgroup = cgroup._replace(state=WARN, seen="no cgroup v2 at /sys/fs/cgroup", fix=fix)
    if host.memory_available is None:
        return (cgroup,)
    free = host.memory_available >> 20
    memory = Finding("memory", OK, f"{free} MiB available", "a protected guest's memory is never swapped out", "")
    if free < 2048:
        memory = memory._replace(state=WARN, fix="stop something, or choose a smaller VM")
    return (memory, cgroup)
