"""Launch digests of SEV and SEV-ES guests: one SHA-256 over what is loaded, in order.

Firmware image, then (with a kernel) the 176-byte table of boot hashes, then (SEV-ES) one VMSA per vCPU. This is
GCTX.LD, 32 bytes: what LAUNCH_MEASURE authenticates with an HMAC, not that HMAC. Source: AMD publication 55766 (SEV
API), 6.5.
"""

from __future__ import annotations

from hashlib import sha256

from ovmf.errors import FirmwareMalformed, KernelNotMeasurable
from ovmf.firmware import MAX_FIRMWARE
from ovmf.footer import Footer, parse_footer
from ovmf.kernel_hashes import KernelHashes, hash_table_bytes
from ovmf.snp_launch import check_vcpus
from ovmf.vmm import vmm_named
from ovmf.vmsa import BSP_EIP, vmsa_page


def sev_launch_digest(firmware: bytes, hashes: KernelHashes | None) -> bytes:
    """SEV, 32 bytes. Raises :class:`FirmwareMalformed`, or :class:`KernelNotMeasurable` without a place for hashes."""
    _check_size(firmware)
    digest = sha256(firmware)
    if hashes is not None:
        digest.update(_table(parse_footer(firmware), hashes))
    return digest.digest()


def sev_es_launch_digest(
    firmware: bytes,
    *,
    vcpus: int,
    vcpu_sig: int,
    hashes: KernelHashes | None,
    vmm: str = "qemu",
    guest_features: int = 0,
) -> bytes:
    """SEV-ES, 32 bytes. ``guest_features`` is SEV_FEATURES of the VMSA: 0, or 0x20 where the host enables debug swap.

    QEMU's ``legacy-vm-type=on`` is ``vmm="qemu-zero-fpu"``: such a VM's FPU state is not synchronised.
    """
    _check_size(firmware)
    check_vcpus(vcpus)
    footer = parse_footer(firmware)
    digest = sha256(firmware)
    if hashes is not None:
        digest.update(_table(footer, hashes))
    monitor = vmm_named(vmm)
    digest.update(vmsa_page(monitor, BSP_EIP, vcpu_sig, guest_features))
    if vcpus > 1:
        page = vmsa_page(monitor, footer.reset_eip(), vcpu_sig, guest_features)
        for _ in range(vcpus - 1):
            digest.update(page)
    return digest.digest()


def _check_size(firmware: bytes) -> None:
    if not 0 < len(firmware) <= MAX_FIRMWARE:
        raise FirmwareMalformed(f"firmware: size got {len(firmware)} bytes, want 1..{MAX_FIRMWARE >> 20} MiB")


def _table(footer: Footer, hashes: KernelHashes) -> bytes:
    if footer.hash_table_gpa() is None:
        raise KernelNotMeasurable(
            "firmware: footer names no SEV hash table, but a kernel is given",
            hint="use an OVMF build for measured direct boot (OVMF.amdsev.fd), or boot without a kernel",
        )
    return hash_table_bytes(hashes)
