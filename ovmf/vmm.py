"""How virtual machine monitors differ in what they measure.

Sources: QEMU and KVM (``arch/x86/kvm/svm``); for EC2 and GCE, sev-snp-measure 0.0.13 and gce-tcb-verifier; for EC2
with RDX zero and libkrun, virtee/sev 7.1 (the library behind snpguest), as it computes them.
"""

from __future__ import annotations

from ovmf.errors import LaunchInvalid

_PAGE_ZERO, _PAGE_UNMEASURED = 3, 4
_VMSA_GPA = 0xFFFFFFFFF000
"""KVM records every VMSA at the highest page of a 48-bit address space."""


class Vmm:
    """One monitor's register values and page types.

    ``fixed_rdx`` replaces the CPU signature where the monitor does not pass it; ``sec_mem_page`` is the SNP page type
    of SNP_SEC_MEM sections; ``cpuid_last`` says CPUID pages are measured after all other sections.
    """

    __slots__ = (
        "cpuid_last", "cs_ap", "cs_bsp", "fixed_rdx", "fpu_control", "g_pat", "mxcsr", "name", "sec_mem_page", "ss",
        "tr", "vmsa_gpa", "words",
    )  # fmt: skip

    def __init__(self, name: str, words: str) -> None:
        self.name, self.words = name, words
        self.cs_bsp = self.cs_ap = 0x9B
        self.ss, self.tr = 0x93, 0x8B
        self.g_pat = 0x0007040600070406
        self.fixed_rdx: int | None = None
        self.mxcsr, self.fpu_control = 0x1F80, 0x37F
        self.vmsa_gpa = _VMSA_GPA
        self.sec_mem_page = _PAGE_ZERO
        self.cpuid_last = False

    @property
    def layout(self) -> tuple[int, bool]:
        """What of this monitor enters the digest before the vCPUs; monitors that agree here share that state."""
        return self.sec_mem_page, self.cpuid_last


def _without_fpu(vmm: Vmm) -> Vmm:
    vmm.mxcsr = vmm.fpu_control = 0
    return vmm


def _qemu_old_kernel() -> Vmm:
    return _without_fpu(Vmm("qemu-zero-fpu", "QEMU on a host kernel older than 6.11, which left MXCSR and FCW zero"))


def _ec2(name: str, words: str, rdx: int) -> Vmm:
    vmm = _without_fpu(Vmm(name, words))
    vmm.cs_bsp, vmm.ss, vmm.tr = 0x9A, 0x92, 0x83
    vmm.fixed_rdx = rdx
    vmm.cpuid_last = True
    return vmm


def _krun() -> Vmm:
    vmm = _without_fpu(Vmm("krun", "libkrun"))
    vmm.cs_bsp, vmm.cs_ap, vmm.ss, vmm.tr = 0x9A, 0x9A, 0x92, 0x83
    vmm.fixed_rdx = 0
    return vmm


def _gce(name: str, words: str, vmsa_gpa: int) -> Vmm:
    vmm = _without_fpu(Vmm(name, words))
    vmm.g_pat = 0x00070106
    vmm.fixed_rdx = 0x600
    vmm.sec_mem_page = _PAGE_UNMEASURED
    vmm.vmsa_gpa = vmsa_gpa
    return vmm


VMMS: dict[str, Vmm] = {
    vmm.name: vmm
    for vmm in (
        Vmm("qemu", "QEMU with KVM"),
        _qemu_old_kernel(),
        _ec2("ec2", "Amazon EC2", 0x600),
        _ec2("ec2-zero-rdx", "Amazon EC2 with RDX zero, as virtee/sev computes it", 0),
        _krun(),
        _gce("gce", "Google Compute Engine, VMSA below 2^48 (Milan)", _VMSA_GPA),
        _gce("gce-52bit", "Google Compute Engine, VMSA below 2^52 (Genoa)", 0xFFFFFFFFFF000),
    )
}


def vmm_named(name: str) -> Vmm:
    """The monitor of that name, or :class:`LaunchInvalid` naming those there are."""
    vmm = VMMS.get(name)
    if vmm is None:
        raise LaunchInvalid(f"vmm: got {name[:40]!r}, want one of {', '.join(VMMS)}")
    return vmm
