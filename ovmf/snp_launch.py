"""Firmware, boot hashes and vCPUs -> the MEASUREMENT an SEV-SNP guest will report.

Order (QEMU; ``ovmf.vmm`` has the others' differences): 1 the firmware's pages, ascending, below 4 GiB; 2 its SEV
metadata sections in file order; 3 one VMSA per vCPU, the boot processor's first.
"""

from __future__ import annotations

from hashlib import sha384

from ovmf import launch_context as ctx
from ovmf.errors import FirmwareMalformed, KernelNotMeasurable, LaunchInvalid
from ovmf.firmware import Firmware, Layout
from ovmf.kernel_hashes import TABLE_SIZE, KernelHashes, kernel_hashes_page
from ovmf.snp_metadata import CPUID, KERNEL_HASHES, PAGE, SEC_MEM, SECRETS, SectionTuple, check_sections
from ovmf.vmm import Vmm, vmm_named
from ovmf.vmsa import BSP_EIP, vmsa_page
from policy.fixed import LaunchDigest

TYPE_CHECKING = False  # typing, and the modules below, cost start-up time
if TYPE_CHECKING:
    from collections.abc import Sequence

    from policy.reference import LaunchRecipe, MeasuredInput

__all__ = ["Firmware", "KernelHashes", "digest_from_recipe", "recipe", "snp_launch_digest"]

MAX_VCPUS = 4096
"""KVM's limit."""


def snp_launch_digest(
    firmware: Firmware,
    *,
    vcpus: int,
    vcpu_sig: int,
    guest_features: int = 1,
    hashes: KernelHashes | None,
    vmm: str = "qemu",
) -> LaunchDigest:
    """The launch digest, 48 bytes. ``hashes`` is ``None`` when no kernel is measured.

    Raises :class:`KernelNotMeasurable` for boot hashes without a place in the firmware, :class:`LaunchInvalid` for
    parameters out of range.
    """
    monitor = vmm_named(vmm)
    check_vcpus(vcpus)
    check_boot_hashes(firmware.layout, hashes)
    state = state_before_vcpus(firmware.ld, firmware.layout, hashes, monitor)
    first, other = vcpu_contents(monitor, firmware.layout.ap_eip, vcpu_sig, guest_features)
    return LaunchDigest(extend_vcpus(state, monitor, first, other, vcpus))


def recipe(
    firmware: Firmware,
    *,
    vcpus: int,
    vcpu_sig: int,
    guest_features: int = 1,
    hashes: KernelHashes | None,
    vmm: str = "qemu",
    inputs: Sequence[MeasuredInput] = (),
) -> LaunchRecipe:
    """Everything :func:`digest_from_recipe` needs to compute the same digest again without the files."""
    from policy.reference import LaunchRecipe, Section

    layout = firmware.layout
    return LaunchRecipe(
        firmware_sha256=firmware.sha256,
        firmware_ld=firmware.ld,
        sections=tuple(Section(*section) for section in layout.sections),
        hash_table_gpa=layout.hash_table_gpa,
        ap_eip=layout.ap_eip,
        vcpus=vcpus,
        vcpu_sig=vcpu_sig,
        guest_features=guest_features,
        vmm=vmm,
        kernel_sha256=hashes.kernel_sha256 if hashes else None,
        initrd_sha256=hashes.initrd_sha256 if hashes else None,
        cmdline_sha256=hashes.cmdline_sha256 if hashes else None,
        inputs=tuple(inputs),
    )


def digest_from_recipe(recipe: LaunchRecipe) -> LaunchDigest:
    """The launch digest a recipe leads to. Recipes come from files: a wrong one raises a ``MalformedInput``
    (:class:`FirmwareMalformed`, :class:`LaunchInvalid`) or :class:`KernelNotMeasurable`."""
    layout, hashes = layout_of(recipe), hashes_of(recipe)
    monitor = vmm_named(recipe.vmm)
    check_vcpus(recipe.vcpus)
    check_boot_hashes(layout, hashes)
    state = state_before_vcpus(recipe.firmware_ld, layout, hashes, monitor)
    first, other = vcpu_contents(monitor, recipe.ap_eip, recipe.vcpu_sig, recipe.guest_features)
    return LaunchDigest(extend_vcpus(state, monitor, first, other, recipe.vcpus))


def layout_of(recipe: LaunchRecipe) -> Layout:
    """The firmware's part of a recipe, checked as if read from an image."""
    if len(recipe.firmware_ld) != 48:
        raise FirmwareMalformed(f"recipe: firmware_ld: got {len(recipe.firmware_ld)} bytes, want 48")
    check_sections(recipe.sections)
    return Layout(recipe.sections, recipe.hash_table_gpa, recipe.ap_eip)


def hashes_of(recipe: LaunchRecipe) -> KernelHashes | None:
    """The boot hashes of a recipe: all three, or ``None``; part of them is :class:`LaunchInvalid`."""
    kernel, initrd, cmdline = recipe.kernel_sha256, recipe.initrd_sha256, recipe.cmdline_sha256
    if kernel is None and initrd is None and cmdline is None:
        return None
    if kernel is None or initrd is None or cmdline is None:
        raise LaunchInvalid("recipe: boot hashes: want all of kernel, initrd and cmdline, or none")
    return KernelHashes(kernel, initrd, cmdline)


def check_vcpus(vcpus: int) -> None:
    """Raise :class:`LaunchInvalid` unless KVM can start that many."""
    if not 1 <= vcpus <= MAX_VCPUS:
        raise LaunchInvalid(f"vCPUs: got {vcpus}, want 1..{MAX_VCPUS}")


def check_boot_hashes(layout: Layout, hashes: KernelHashes | None) -> None:
    """Raise :class:`KernelNotMeasurable` when there are hashes but no section the firmware would read them from.

    A table outside the measured section would be measured but never enforced, so that is refused too.
    """
    if hashes is None:
        return
    hint = "use an OVMF build for measured direct boot (OVMF.amdsev.fd), or boot without a kernel"
    homes = [gpa for gpa, _, kind in layout.sections if kind == KERNEL_HASHES]
    if not homes:
        raise KernelNotMeasurable("firmware: no SNP_KERNEL_HASHES section, but a kernel is given", hint=hint)
    table = layout.hash_table_gpa
    if table is None:
        raise KernelNotMeasurable("firmware: footer names no SEV hash table, but a kernel is given", hint=hint)
    if any(not gpa <= table <= gpa + PAGE - TABLE_SIZE for gpa in homes):
        raise KernelNotMeasurable(
            f"firmware: hash table at 0x{table:X} is not inside the SNP_KERNEL_HASHES section at 0x{homes[0]:X}",
            hint=hint,
        )


def measured_order(layout: Layout, vmm: Vmm) -> tuple[SectionTuple, ...]:
    """The firmware's metadata sections in the order in which they are measured."""
    if not vmm.cpuid_last:
        return layout.sections
    early = tuple(section for section in layout.sections if section[2] != CPUID)
    return early + tuple(section for section in layout.sections if section[2] == CPUID)


def state_before_vcpus(firmware_ld: bytes, layout: Layout, hashes: KernelHashes | None, vmm: Vmm) -> bytes:
    """GCTX.LD after the firmware's metadata sections, 48 bytes."""
    state = firmware_ld
    for section in measured_order(layout, vmm):
        state = extend_section(state, section, layout, hashes, vmm)
    return state


def extend_section(state: bytes, section: SectionTuple, layout: Layout, hashes: KernelHashes | None, vmm: Vmm) -> bytes:
    """GCTX.LD after one metadata section."""
    gpa, size, kind = section
    if kind == SECRETS:
        return ctx.extend(state, ctx.SECRETS, gpa)
    if kind == CPUID:
        return ctx.extend(state, ctx.CPUID, gpa)
    if kind == SEC_MEM:
        return ctx.extend_range(state, vmm.sec_mem_page, gpa, size)
    if kind == KERNEL_HASHES and hashes is not None and layout.hash_table_gpa is not None:
        return ctx.extend_normal(state, gpa, kernel_hashes_page(hashes, layout.hash_table_gpa))
    return ctx.extend_range(state, ctx.ZERO, gpa, size)


def vcpu_contents(vmm: Vmm, ap_eip: int, vcpu_sig: int, guest_features: int) -> tuple[bytes, bytes]:
    """SHA-384 of the boot processor's VMSA and of every other vCPU's, which are all alike."""
    first = sha384(vmsa_page(vmm, BSP_EIP, vcpu_sig, guest_features)).digest()
    return first, sha384(vmsa_page(vmm, ap_eip, vcpu_sig, guest_features)).digest()


def extend_vcpus(state: bytes, vmm: Vmm, first: bytes, other: bytes, vcpus: int) -> bytes:
    """GCTX.LD after the VMSA pages; ``first`` and ``other`` as from :func:`vcpu_contents`."""
    state = ctx.extend(state, ctx.VMSA, vmm.vmsa_gpa, first)
    tail = ctx.tail(ctx.VMSA, vmm.vmsa_gpa, other)
    for _ in range(vcpus - 1):
        state = sha384(state + tail).digest()
    return state
