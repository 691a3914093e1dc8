"""The VMSA: a vCPU's initial register state, one page that enters the launch digest for every vCPU.

Offsets are of the SEV-ES save area, AMD publication 24593 (APM volume 2), table B-4; a segment is
{selector u16, attributes u16, limit u32, base u64}, all little-endian. Values are those KVM leaves after reset.
"""

from __future__ import annotations

from struct import Struct

from ovmf.errors import LaunchInvalid
from ovmf.vmm import Vmm

BSP_EIP = 0xFFFFFFF0
"""The reset vector: where the first vCPU starts."""

_SEGMENT = Struct("<HHIQ").pack_into
_U64 = Struct("<Q").pack_into
_U32 = Struct("<I").pack_into
_U16 = Struct("<H").pack_into


def vmsa_page(vmm: Vmm, eip: int, vcpu_sig: int, guest_features: int) -> bytes:
    """The 4096-byte page of a vCPU that starts at ``eip`` (u32).

    ``vcpu_sig`` is CPUID 1 EAX (u32), ``guest_features`` the 64-bit SEV_FEATURES the host sets.
    """
    if not 0 <= eip < 1 << 32:
        raise LaunchInvalid(f"vCPU start address: got 0x{eip:X}, want 32 bits")
    if not 0 <= vcpu_sig < 1 << 32:
        raise LaunchInvalid(f"CPU signature: got 0x{vcpu_sig:X}, want 32 bits")
    if not 0 <= guest_features < 1 << 64:
        raise LaunchInvalid(f"guest features: got 0x{guest_features:X}, want 64 bits")
    page = bytearray(4096)
    _segments(page, vmm, eip)
    _U64(page, 0x0D0, 0x1000)  # EFER: SVME, which hardware requires set
    _U64(page, 0x148, 0x40)  # CR4: MCE
    _U64(page, 0x158, 0x10)  # CR0: ET
    _U64(page, 0x160, 0x400)  # DR7
    _U64(page, 0x168, 0xFFFF0FF0)  # DR6
    _U64(page, 0x170, 0x2)  # RFLAGS
    _U64(page, 0x178, eip & 0xFFFF)  # RIP
    _U64(page, 0x268, vmm.g_pat)
    _U64(page, 0x310, vcpu_sig if vmm.fixed_rdx is None else vmm.fixed_rdx)  # RDX
    _U64(page, 0x3B0, guest_features)  # SEV_FEATURES
    _U64(page, 0x3E8, 0x1)  # XCR0
    _U32(page, 0x408, vmm.mxcsr)
    _U16(page, 0x410, vmm.fpu_control)
    return bytes(page)


def _segments(page: bytearray, vmm: Vmm, eip: int) -> None:
    for offset in (0x00, 0x30, 0x40, 0x50):  # ES DS FS GS
        _SEGMENT(page, offset, 0, 0x93, 0xFFFF, 0)
    cs_attributes = vmm.cs_bsp if eip == BSP_EIP else vmm.cs_ap
    _SEGMENT(page, 0x10, 0xF000, cs_attributes, 0xFFFF, eip & 0xFFFF0000)
    _SEGMENT(page, 0x20, 0, vmm.ss, 0xFFFF, 0)
    _SEGMENT(page, 0x60, 0, 0, 0xFFFF, 0)  # GDTR
    _SEGMENT(page, 0x70, 0, 0x82, 0xFFFF, 0)  # LDTR
    _SEGMENT(page, 0x80, 0, 0, 0xFFFF, 0)  # IDTR
    _SEGMENT(page, 0x90, 0, vmm.tr, 0xFFFF, 0)  # TR
