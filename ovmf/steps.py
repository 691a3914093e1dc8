"""A launch digest step by step: what is measured, where, and the digest after it. Two firmware builds, or two tools,
that disagree can be compared line by line."""

from __future__ import annotations

from typing import NamedTuple

from ovmf import launch_context as ctx
from ovmf.firmware import Firmware
from ovmf.kernel_hashes import KernelHashes
from ovmf.snp_launch import check_boot_hashes, check_vcpus, extend_section, measured_order, vcpu_contents
from ovmf.snp_metadata import FOUR_GIB, KERNEL_HASHES, NAMES, PAGE
from ovmf.vmm import vmm_named
from ovmf.vmsa import BSP_EIP, vmsa_page


class Step(NamedTuple):
    """One thing measured: ``gpa`` and ``size`` in guest physical bytes, ``digest`` (48 bytes) after it."""

    name: str
    gpa: int
    size: int
    digest: bytes


def launch_steps(
    firmware: Firmware,
    *,
    vcpus: int,
    vcpu_sig: int,
    guest_features: int = 1,
    hashes: KernelHashes | None,
    vmm: str = "qemu",
) -> tuple[Step, ...]:
    """The steps; the last one's digest is the launch digest. Raises as `ovmf.snp_launch.snp_launch_digest` does."""
    monitor = vmm_named(vmm)
    check_vcpus(vcpus)
    check_boot_hashes(firmware.layout, hashes)
    size = firmware.size
    steps = [Step("firmware", FOUR_GIB - size, size, firmware.ld)]
    state = firmware.ld
    for section in measured_order(firmware.layout, monitor):
        state = extend_section(state, section, firmware.layout, hashes, monitor)
        name = NAMES[section[2]]
        if section[2] == KERNEL_HASHES:
            name += " (hash table)" if hashes is not None else " (empty)"
        steps.append(Step(name, section[0], section[1], state))
    first, other = vcpu_contents(monitor, firmware.layout.ap_eip, vcpu_sig, guest_features)
    for index in range(vcpus):
        state = ctx.extend(state, ctx.VMSA, monitor.vmsa_gpa, other if index else first)
        steps.append(Step(f"vCPU {index}", monitor.vmsa_gpa, PAGE, state))
    return tuple(steps)


def vmsa_pages(firmware: Firmware, *, vcpu_sig: int, guest_features: int, vmm: str) -> tuple[bytes, bytes]:
    """The boot processor's VMSA page and that of every other vCPU, 4096 bytes each."""
    monitor = vmm_named(vmm)
    first = vmsa_page(monitor, BSP_EIP, vcpu_sig, guest_features)
    return first, vmsa_page(monitor, firmware.layout.ap_eip, vcpu_sig, guest_features)
