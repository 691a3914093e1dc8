"""The launch digest of a guest that starts in an SVSM (COCONUT) handed to QEMU beside OVMF, without an IGVM file.

Order: OVMF's pages below 4 GiB; the SVSM's pages, placed to end where OVMF's variable store begins; the metadata
sections **of the SVSM binary** (OVMF's own are not measured); one VMSA per vCPU, all alike. sev-snp-measure 0.0.13
calls this ``snp:svsm``; the digests equal its. IGVM files (`ovmf.igvm`) are what current SVSM releases use.
"""

from __future__ import annotations

from hashlib import sha384
from struct import pack_into

from ovmf import launch_context as ctx
from ovmf.errors import FirmwareMalformed, LaunchInvalid
from ovmf.firmware import MAX_FIRMWARE, Layout
from ovmf.footer import parse_footer
from ovmf.guid import efi_guid
from ovmf.snp_launch import check_vcpus, extend_vcpus, state_before_vcpus
from ovmf.snp_metadata import FOUR_GIB, PAGE, parse_sections
from ovmf.vmm import vmm_named
from ovmf.vmsa import vmsa_page
from policy.fixed import LaunchDigest
from policy.wire import ByteReader

SVSM_INFO = efi_guid("a789a612-0597-4c4b-a49f-cbb1fe9d1ddd")
_SNP_ACTIVE = 1


def svsm_vmsa_page(rip: int, vcpu_sig: int) -> bytes:
    """The 4096-byte VMSA of every vCPU: flat 32-bit protected mode at ``rip``; ``vcpu_sig`` is CPUID 1 EAX."""
    page = bytearray(vmsa_page(vmm_named("qemu"), 0, vcpu_sig, _SNP_ACTIVE))
    for offset in (0x00, 0x20, 0x30, 0x40):  # ES SS DS FS
        pack_into("<HHIQ", page, offset, 16, 0xC93, 0xFFFFFFFF, 0)
    pack_into("<HHIQ", page, 0x10, 8, 0xC9B, 0xFFFFFFFF, 0)  # CS
    pack_into("<Q", page, 0x158, 0x11)  # CR0: ET, PE
    pack_into("<Q", page, 0x178, rip)
    pack_into("<H", page, 0x410, 0)  # FCW, which the reference tool leaves zero here
    return bytes(page)


class Svsm:
    """An SVSM binary in its place: ``gpa`` of its first page, metadata ``layout``, and ``rip`` where vCPUs start."""

    __slots__ = ("data", "gpa", "layout", "rip")

    def __init__(self, data: bytes, end: int) -> None:
        """``end`` is the guest physical address just behind it. Raises :class:`FirmwareMalformed`."""
        if not 0 < len(data) <= MAX_FIRMWARE or len(data) % PAGE:
            raise FirmwareMalformed(f"svsm: size got {len(data)} bytes, want whole 4 KiB pages, at most 64 MiB")
        if end % PAGE or len(data) > end:
            raise FirmwareMalformed(f"svsm: no room for {len(data)} bytes below 0x{end:X}")
        footer = parse_footer(data)
        info = footer.entries.get(SVSM_INFO)
        if info is None:
            raise FirmwareMalformed("svsm: footer: no SVSM info entry", hint="this is not an SVSM binary")
        offset = footer.metadata_offset()
        self.data, self.gpa = data, end - len(data)
        self.rip = self.gpa + ByteReader(info, "svsm: info", error=FirmwareMalformed).u32("launch offset")
        if self.rip >= end:
            raise FirmwareMalformed(f"svsm: launch offset leads to 0x{self.rip:X}, behind the binary")
        self.layout = Layout(() if offset is None else parse_sections(data, offset, end), None, 0)


def svsm_launch_digest(
    firmware: bytes, svsm: bytes, *, variable_store_size: int, vcpus: int, vcpu_sig: int
) -> LaunchDigest:
    """The launch digest, 48 bytes. ``firmware`` is OVMF's code image, ``variable_store_size`` that of its variable
    file.

    Raises :class:`FirmwareMalformed` or :class:`LaunchInvalid`.
    """
    check_vcpus(vcpus)
    placed = place(firmware, svsm, variable_store_size)
    monitor = vmm_named("qemu")
    state = ctx.extend_normal(ctx.START, FOUR_GIB - len(firmware), firmware)
    state = ctx.extend_normal(state, placed.gpa, placed.data)
    state = state_before_vcpus(state, placed.layout, None, monitor)
    contents = sha384(svsm_vmsa_page(placed.rip, vcpu_sig)).digest()
    return LaunchDigest(extend_vcpus(state, monitor, contents, contents, vcpus))


def place(firmware: bytes, svsm: bytes, variable_store_size: int) -> Svsm:
    """The SVSM where QEMU puts it: below OVMF and its variable store."""
    if not 0 < len(firmware) <= MAX_FIRMWARE or len(firmware) % PAGE:
        raise FirmwareMalformed(f"firmware: size got {len(firmware)} bytes, want whole 4 KiB pages, at most 64 MiB")
    if not 0 <= variable_store_size <= MAX_FIRMWARE or variable_store_size % PAGE:
        raise LaunchInvalid(f"variable store: got {variable_store_size} bytes, want whole 4 KiB pages, at most 64 MiB")
    return Svsm(svsm, FOUR_GIB - len(firmware) - variable_store_size)
