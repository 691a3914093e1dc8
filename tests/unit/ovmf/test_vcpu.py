"""CPU signatures and the VMSA page."""

from __future__ import annotations

import pytest

from ovmf.errors import LaunchInvalid, UnknownCpuModel
from ovmf.vcpu import cpu_signature, describe_signature, vcpu_signature
from ovmf.vmm import VMMS, vmm_named
from ovmf.vmsa import BSP_EIP, vmsa_page


@pytest.mark.parametrize(
    ("model", "signature"),
    [
        ("EPYC", 0x800F12), ("EPYC-v4", 0x800F12), ("EPYC-v5", 0x800F12), ("EPYC-IBPB", 0x800F12),
        ("EPYC-Rome", 0x830F10), ("EPYC-Rome-v4", 0x830F10), ("EPYC-Milan", 0xA00F11), ("EPYC-Milan-v3", 0xA00F11),
        ("EPYC-Genoa", 0xA10F10), ("EPYC-Genoa-v2", 0xA10F10), ("EPYC-Turin", 0xB00F00), ("EPYC-Turin-v2", 0xB00F00),
    ],
)  # fmt: skip
def test_every_version_of_a_model_has_its_signature(model: str, signature: int) -> None:
    assert vcpu_signature(model) == signature


@pytest.mark.parametrize(
    "model", ["", "epyc", "EPYC-", "EPYC-v", "EPYC-vx", "EPYC-v4-v4", "EPYC-Milan-", "-v4", "EPYC-v٤"]
)
def test_a_name_that_is_no_model_is_refused_with_the_known_ones(model: str) -> None:
    with pytest.raises(UnknownCpuModel) as caught:
        vcpu_signature(model)
    assert "EPYC-Milan" in (caught.value.hint or "")


def test_the_host_model_asks_for_a_signature() -> None:
    with pytest.raises(UnknownCpuModel) as caught:
        vcpu_signature("host")
    assert "--vcpu-sig" in (caught.value.hint or "")


@pytest.mark.parametrize("numbers", [(14, 0, 0), (271, 0, 0), (25, 256, 0), (25, 0, 16), (25, -1, 0)])
def test_numbers_that_do_not_fit_a_signature_are_refused(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(LaunchInvalid, match="out of range"):
        cpu_signature(*numbers)


def test_a_signature_is_described_by_model_or_by_numbers() -> None:
    assert describe_signature(0xA00F11) == "0xa00f11 (EPYC-Milan)"
    assert describe_signature(cpu_signature(25, 160, 2)) == "0xaa0f02 (family 25 model 160 stepping 2)"


def u(page: bytes, offset: int, size: int) -> int:
    return int.from_bytes(page[offset : offset + size], "little")


def test_the_boot_processor_starts_at_the_reset_vector() -> None:
    page = vmsa_page(vmm_named("qemu"), BSP_EIP, 0x800F12, 1)
    assert len(page) == 4096
    assert page[0x10:0x20].hex() == "00f09b00ffff0000" + "0000ffff00000000"
    assert u(page, 0x178, 8) == 0xFFF0
    assert (u(page, 0x310, 8), u(page, 0x3B0, 8)) == (0x800F12, 1)
    assert (u(page, 0x408, 4), u(page, 0x410, 2)) == (0x1F80, 0x37F)


def test_another_vcpu_starts_where_the_firmware_says() -> None:
    page = vmsa_page(vmm_named("qemu"), 0x80B004, 0x800F12, 0x21)
    assert (u(page, 0x18, 8), u(page, 0x178, 8), u(page, 0x3B0, 8)) == (0x800000, 0xB004, 0x21)


def test_monitors_differ_as_documented() -> None:
    pages = {name: vmsa_page(vmm, BSP_EIP, 0x800F12, 1) for name, vmm in VMMS.items()}
    assert u(pages["qemu-zero-fpu"], 0x408, 4) == 0
    assert [u(pages["ec2"], offset, 2) for offset in (0x12, 0x22, 0x92)] == [0x9A, 0x92, 0x83]
    assert u(pages["ec2"], 0x310, 8) == u(pages["gce"], 0x310, 8) == 0x600
    assert u(pages["gce"], 0x268, 8) == 0x00070106
    assert pages["gce"] == pages["gce-52bit"]
    assert vmm_named("gce-52bit").vmsa_gpa == 0xFFFFFFFFFF000


def test_only_the_boot_processor_of_ec2_has_the_odd_code_segment() -> None:
    assert u(vmsa_page(vmm_named("ec2"), 0x80B004, 0, 1), 0x12, 2) == 0x9B


def test_an_unknown_monitor_is_refused() -> None:
    with pytest.raises(LaunchInvalid, match="got 'xen', want one of qemu, "):
        vmm_named("xen")


@pytest.mark.parametrize(
    ("eip", "signature", "features"),
    [(1 << 32, 0, 0), (-1, 0, 0), (0, 1 << 32, 0), (0, -1, 0), (0, 0, 1 << 64), (0, 0, -1)],
)
def test_register_values_out_of_range_are_refused(eip: int, signature: int, features: int) -> None:
    with pytest.raises(LaunchInvalid):
        vmsa_page(vmm_named("qemu"), eip, signature, features)
