"""Judge :class:`launcher.core.doctor_facts.DeepFacts`: kernel, log, key slots, memory, devices, quotes, assignment.

Findings here explain and warn; whether a platform can run is decided by ``launcher.core.capability`` from what KVM
itself answers. ``blocks`` names what does not work: a platform, ``quotes``, ``vfio``, ``limits``,
``tap``, ``passt`` or ``vsock``.
Sources: Linux ``arch/x86/kvm/svm/sev.c``, ``arch/x86/virt/vmx/tdx/tdx.c``, ``drivers/iommu/amd/init.c``.
"""

from __future__ import annotations

from collections.abc import Iterator

from launcher.core.capability import OK, WARN, Finding
from launcher.core.doctor_facts import DeepFacts
from launcher.core.text import safe_text

SKIP = "skip"
MINIMUM_API = (1, 51)
_OPTIONS = {
    "KVM_AMD_SEV": ("sev-snp", "SEV-SNP guests"),
    "INTEL_TDX_HOST": ("tdx", "TDX guests"),
    "KVM_GUEST_MEMFD": ("sev-snp", "memory that the host cannot map"),
    "IOMMUFD": ("vfio", "device assignment to protected guests"),
    "VFIO_PCI": ("vfio", "device assignment"),
    "SECURITY_LANDLOCK": ("limits", "QEMU behind Landlock"),
    "CGROUP_MISC": ("limits", "encryption keys as a counted resource"),
}
_LOG = (
    ("rmp.reserved", "RMP table has not been reserved by BIOS", "sev-snp", "switch on SNP memory coverage in the BIOS"),
    ("rmp.valid", "RMP configuration not valid", "sev-snp", "update the BIOS; memory coverage must span everything"),
    ("iommu.snp", "SNP: IOMMU disabled or configured in passthrough", "sev-snp", "boot without iommu=pt and iommu=off"),
    ("iommu.v2", "V2 page table mode", "sev-snp", "boot without amd_iommu=pgtbl_v2"),
    ("iommu.feature", "IOMMU SNP feature not enabled", "sev-snp", "switch on IOMMU and SNP support in the BIOS"),
    ("sev.bios", "memory encryption not enabled by BIOS", "sev-snp", "switch on SMEE and SEV in the BIOS"),
    ("tdx.hibernation", "Hibernation support is enabled", "tdx", "boot with nohibernate"),
    ("tdx.module", "TDX module is not loaded", "tdx", "install the TDX module and switch TDX on in the BIOS"),
    ("tdx.module", "virt/tdx: module not loaded", "tdx", "install the TDX module and switch TDX on in the BIOS"),
    ("tdx.keys", "too few private KeyIDs", "tdx", "give TDX more key IDs in the BIOS"),
    ("tdx.rbp", "clobber bug present", "tdx", "upgrade the TDX module"),
    ("tdx.vcpus", "MAX_VCPU_PER_TD", "tdx", "a newer TDX module, or fewer processors: nosmt, maxcpus="),
    ("tdx.mmu", "MMIO caching", "tdx", "boot without kvm parameters that switch EPT, the TDP MMU or MMIO caching off"),
)  # fmt: skip


def deep_findings(facts: DeepFacts, qemu: tuple[int, ...] | None) -> tuple[Finding, ...]:
    """All of it, in the order of the module's first line."""
    return (
        *_kernel(facts), *_log(facts), *_slots(facts), *_firmware(facts), *_memory(facts), *_paging(facts),
        *_balancing(facts), *_cgroup(facts),
        *_devices(facts), *_network(facts), *_quotes(facts), *_vfio(facts), *_pairs(facts, qemu), _clock(facts),
    )  # fmt: skip


def _kernel(facts: DeepFacts) -> Iterator[Finding]:
    if facts.config is None:
        why = "tells what this kernel was built for"
        yield Finding("kernel.config", SKIP, "no readable configuration of this kernel", why, "")
        return
    for name, (blocks, what) in _OPTIONS.items():
        value = facts.config.get(name, "n")
        met = value in ("y", "m")
        fix = "" if met else f"a kernel with CONFIG_{name}"
        seen = f"CONFIG_{name}={value} ({facts.config_file})"
        yield Finding(f"kernel.{name.lower()}", OK if met else WARN, seen, f"needed for {what}", fix, (blocks,))


def _log(facts: DeepFacts) -> Iterator[Finding]:
    if facts.kernel_log is None:
        why = "names what BIOS and kernel options are in the way"
        yield Finding("kernel.log", SKIP, "/dev/kmsg cannot be read", why, "run as root, or kernel.dmesg_restrict=0")
        return
    found = False
    for name, text, blocks, fix in _LOG:
        for line in facts.kernel_log:
            if text in line:
                found = True
                yield Finding(f"log.{name}", WARN, safe_text(line, 160), "the kernel gave up on it", fix, (blocks,))
                break
    if not found:
        seen = f"{len(facts.kernel_log)} lines, no known complaint"
        yield Finding("kernel.log", OK, seen, "names what BIOS and kernel options are in the way", "")


def _slots(facts: DeepFacts) -> Iterator[Finding]:
    why = "every protected VM takes one memory encryption key; without a free one its launch fails with EBUSY"
    for resource, platform in (("sev_es", "sev-snp"), ("tdx", "tdx")):
        if resource not in facts.misc:
            continue
        total, used = facts.misc[resource]
        free = total - (used or 0)
        seen = f"misc.capacity {resource} {total}, used {'unknown' if used is None else used}"
        fix = "" if free > 0 else "stop a protected VM, or give more keys in the BIOS"
        yield Finding(f"slots.{resource}", OK if free > 0 else WARN, seen, why, fix, (platform,))
    if facts.asids is None:
        yield Finding("slots.cpuid", SKIP, "/dev/cpu/0/cpuid cannot be read", why, "modprobe cpuid, as root")
    elif facts.asids[0]:
        number, first = facts.asids
        seen = f"CPUID 0x8000001F: {number} ASIDs, {first - 1} for SEV-ES and SNP"
        fix = "" if first > 1 else "set the minimum SEV ASID above 1 in the BIOS"
        yield Finding("slots.cpuid", OK if first > 1 else WARN, seen, why, fix, ("sev-snp",))


def _firmware(facts: DeepFacts) -> Iterator[Finding]:
    status, why = facts.snp, "KVM silently keeps SNP off below API 1.51"
    if status is None:
        if "sev" in facts.devices:
            yield Finding("snp.firmware", SKIP, "the AMD firmware was not asked or did not answer", why, "")
        return
    version = f"API {status.api[0]}.{status.api[1]}, RMP {'initialised' if status.rmp else 'NOT initialised'}"
    good = status.api >= MINIMUM_API and status.rmp
    fix = "" if good else "update the SEV firmware (linux-firmware or BIOS)"
    yield Finding("snp.firmware", OK if good else WARN, f"{version}, {status.guests} guests", why, fix, ("sev-snp",))
    same = status.current_tcb == status.reported_tcb
    seen = f"current {status.current_tcb:016x}, reported {status.reported_tcb:016x}"
    fix = "" if same else "SNP_COMMIT after a firmware update; policies see the reported one"
    yield Finding("snp.tcb", OK if same else WARN, seen, "reports are signed for the reported TCB", fix)


def _memory(facts: DeepFacts) -> Iterator[Finding]:
    ksm = facts.settings.get("ksm")
    why = "merging pages of several VMs is a side channel; encrypted pages never match"
    if ksm is None:
        yield Finding("ksm", SKIP, "/sys/kernel/mm/ksm/run cannot be read", why, "")
    else:
        fix = "" if ksm == "0" else "echo 2 > /sys/kernel/mm/ksm/run"
        yield Finding("ksm", OK if ksm == "0" else WARN, f"run={ksm}", why, fix)
    if facts.swap is not None:
        fix = "swapoff -a, or encrypted swap" if facts.swap else ""
        seen = "active" if facts.swap else "none"
        why = "private memory is never swapped, so everything else is, and the shared half of a guest may be"
        yield Finding("swap", WARN if facts.swap else OK, seen, why, fix)
    thp, huge = facts.settings.get("thp"), facts.settings.get("hugepages")
    seen = f"transparent {_chosen(thp)}, reserved {huge or 'unknown'}"
    yield Finding("hugepages", OK, seen, "private memory uses 4 KiB pages whatever is set here", "")


def _paging(facts: DeepFacts) -> Iterator[Finding]:
    """Of the module that is loaded."""
    for name, module, platform in (("npt", "kvm_amd", "sev-snp"), ("ept", "kvm_intel", "tdx")):
        value = facts.settings.get(name)
        if value is not None:
            on = value in ("Y", "1")
            fix = "" if on else f"load {module} without {name}=0"
            why = "nested paging; without it every VM is slow and no protected one starts"
            yield Finding(f"kvm.{name}", OK if on else WARN, f"{module}.{name}={value}", why, fix, (platform,))


def _balancing(facts: DeepFacts) -> Iterator[Finding]:
    value = facts.settings.get("numa_balancing")
    if value is not None:
        why = "it moves memory towards who uses it; private pages cannot be moved, and a placed VM should not be"
        fix = "" if value == "0" else "sysctl kernel.numa_balancing=0 on a host of protected or placed VMs"
        yield Finding("numa.balancing", OK if value == "0" else WARN, f"kernel.numa_balancing={value}", why, fix)


def _chosen(text: str | None) -> str:
    """``always [madvise] never`` -> ``madvise``."""
    return "unknown" if text is None else text.partition("[")[2].partition("]")[0] or text


def _cgroup(facts: DeepFacts) -> Iterator[Finding]:
    if facts.controllers is None:
        return  # the finding "cgroup" says that there is no v2
    missing = [name for name in ("cpu", "cpuset", "io", "memory", "misc", "pids") if name not in facts.controllers]
    fix = "delegate them (systemd: Delegate=yes)" if missing else ""
    seen = f"missing {', '.join(missing)}" if missing else "all that [limits] uses"
    why = "a limit whose controller is missing is not enforced"
    yield Finding("cgroup.controllers", WARN if missing else OK, seen, why, fix, ("limits",) if missing else ())


_NODES = {
    "vhost-vsock": ("a vsock for the guest", "modprobe vhost_vsock", "vsock"),
    "iommu": ("device assignment to protected guests", "a kernel with CONFIG_IOMMUFD", "vfio"),
    "net/tun": ("tap networks", "modprobe tun", "tap"),
    "sgx_enclave": ("the quoting enclave", "switch SGX on in the BIOS", "quotes"),
    "sgx_provision": ("certifying the quoting enclave", "switch SGX on in the BIOS; group sgx_prv", "quotes"),
}


def _devices(facts: DeepFacts) -> Iterator[Finding]:
    for name, (what, fix, blocks) in _NODES.items():
        problem = facts.devices.get(name, "no such device")
        seen = problem or "can be opened"
        yield Finding(f"device.{name}", WARN if problem else OK, f"/dev/{name}: {seen}", f"needed for {what}",
                      fix if problem else "", (blocks,) if problem else ())  # fmt: skip


_PROGRAMS = {
    "ip": ('kinds "bridge" and "macvtap"', "apt install iproute2", "tap"),
    "tc": ("limits of networks", "apt install iproute2", "limits"),
    "passt": ('backend = "passt", a user network outside of QEMU', "apt install passt", "passt"),
}


def _network(facts: DeepFacts) -> Iterator[Finding]:
    for name, (what, fix, blocks) in _PROGRAMS.items():
        here = name in facts.programs
        yield Finding(f"network.{name}", OK if here else WARN, "installed" if here else "not installed",
                      f"needed for {what}", "" if here else fix, () if here else (blocks,))  # fmt: skip


def _quotes(facts: DeepFacts) -> Iterator[Finding]:
    why = "QEMU asks it for the quotes of TDs; without it they start and cannot attest"
    for path, problem in facts.sockets.items():
        fix = "start qgsd, or name its socket in [tdx] quote_socket" if problem else ""
        blocks = ("quotes",) if problem else ()
        yield Finding("quotes.qgs", WARN if problem else OK, f"{path}: {problem or 'answers'}", why, fix, blocks)


def _vfio(facts: DeepFacts) -> Iterator[Finding]:
    why = "device assignment needs an IOMMU that translates"
    passthrough = "iommu=pt" in facts.cmdline.split() or "identity" in facts.iommu_domains
    if not facts.iommu_groups:
        fix = "switch on AMD-Vi or VT-d in the BIOS, boot with intel_iommu=on"
        yield Finding("iommu", WARN, "no IOMMU groups", why, fix, ("vfio",))
    elif passthrough:
        fix = "boot without iommu=pt: the processor's flag stays, SNP is off"
        yield Finding("iommu", WARN, f"{facts.iommu_groups} groups, passthrough mode", why, fix, ("sev-snp",))
    else:
        yield Finding("iommu", OK, f"{facts.iommu_groups} groups, translating", why, "")


def _pairs(facts: DeepFacts, qemu: tuple[int, ...] | None) -> Iterator[Finding]:
    """Versions that are known not to work together."""
    known = (
        ("pair.kernel-snp", facts.kernel < (6, 11), "sev-snp", "SEV-SNP hosts need Linux 6.11", "a newer kernel"),
        ("pair.kernel-tdx", facts.kernel < (6, 16), "tdx", "TDX hosts need Linux 6.16", "a newer kernel"),
        ("pair.qemu-tdx", qemu is not None and qemu < (10, 1), "tdx", "TDX needs QEMU 10.1", "a newer QEMU"),
        ("pair.qemu-vfio", qemu is not None and (9, 1) <= qemu < (9, 2), "vfio",
         "QEMU 9.1 cannot combine SEV-SNP and VFIO", "QEMU 9.2 or newer"),
    )  # fmt: skip
    version = "no QEMU" if qemu is None else f"QEMU {'.'.join(map(str, qemu))}"
    seen = f"Linux {facts.kernel[0]}.{facts.kernel[1]}, {version}"
    for name, bad, blocks, why, fix in known:
        if bad:
            yield Finding(name, WARN, seen, why, fix, (blocks,))
    if not any(bad for _, bad, _, _, _ in known):
        yield Finding("pairs", OK, seen, "no pair that is known not to work", "")


def _clock(facts: DeepFacts) -> Finding:
    good = 2025 <= facts.year < 2100
    why = "certificates and revocation lists are judged by it"
    return Finding("clock", OK if good else WARN, f"year {facts.year}", why, "" if good else "set the clock")
