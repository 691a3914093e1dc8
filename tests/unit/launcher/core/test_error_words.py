"""Error texts that were really seen, each with the cause and remedy it stands for."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.core.error_words import _KNOWN, explain, explain_code
from launcher.core.firmware_codes import FIRMWARE_CODES

SEEN = {
    "qemu-system-x86_64: -accel kvm: vm-type SEV-SNP not supported by KVM": "kvm.no-snp",
    "qemu-system-x86_64: -accel kvm: vm-type TDX not supported by KVM": "kvm.no-tdx",
    "cannot set up private guest memory for sev-snp-guest: KVM required": "kvm.required",
    "accelerator does not support confidential guest sev-guest": "kvm.required",
    "sev_common_kvm_init: cbitpos check failed, host '0' requested '51'": "kvm.c-bit",
    "-object sev-snp-guest,id=sev0,cbitpos=51: Parameter 'reduced-phys-bits' is missing": "kvm.reduced-bits",
    "-accel kvm: Could not open '/dev/sev': No such file or directory": "sev.device",
    "sev_common_kvm_init: Failed to open /dev/sev 'No such file or directory'": "sev.device",
    "parameter length of 3 not equal to 32": "qemu.host-data",
    "parameter length of 3 not equal to 96": "qemu.id-block",
    "Base64 data contains invalid characters": "qemu.base64",
    "KVM_STATE: Object 0x55 is not an instance of type kvm-accel": "qemu.tdx-unattached",
    "Invalid parameter 'quote-generation-socket.path'": "qemu.flat-socket",
    "Parameter 'debug' is unexpected": "qemu.no-debug",
    "Parameter 'qom-type' does not accept value 'igvm-cfg'": "qemu.no-igvm",
    "Parameter 'qom-type' does not accept value 'tdx-guest'": "qemu.no-object",
    "unable to map backing store for guest RAM: Cannot allocate memory": "memory.hugepages",
    "/dev/iommu does not exist (is your kernel config missing CONFIG_IOMMUFD?)": "vfio.no-iommufd",
    "Could not open '/dev/vhost-vsock': No such file or directory": "vsock.absent",
    "qemu: could not open kernel file '/x/vmlinuz': No such file or directory": "boot.absent",
    "qemu: linux kernel too old to load a ram disk": "boot.no-kernel",
    "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)": "boot.no-root",
    "unable to find CPU model 'bogus'": "qemu.cpu-model",
    "SEV: guest firmware hashes table area is invalid (base=0x0 size=0x0)": "sev.no-hash-area",
    "OVMF: Secure boot image verification failed.  Consider using the '-shim'": "firmware.unsigned",
    "SNP_LAUNCH_START ret=-5 fw_error=7 'Policy is not allowed'": "firmware.policy-failure",
    "SNP_LAUNCH_FINISH ret=-5 fw_error=11 'Bad measurement'": "firmware.bad-measurement",
    "SNP_LAUNCH_START ret=-5 fw_error=38 ''": "firmware.rmp-initialization-failed",
    "SNP_LAUNCH_START ret=-22 fw_error=0 ''": "kernel.refused",
    "SNP_LAUNCH_START ret=-25 fw_error=0 ''": "kernel.refused",
}


@pytest.mark.parametrize("text", SEEN)
def test_a_text_that_was_seen_is_explained(text: str) -> None:
    found = explain(text)
    assert SEEN[text] in [item.id for item in found]
    assert all(item.cause and item.remedy for item in found)


def test_every_firmware_code_from_19_to_28_has_a_cause_and_a_remedy() -> None:
    for code in (*range(0x01, 0x1E), *range(0x1F, 0x29)):
        item = explain_code(code)
        assert item.id == f"firmware.{FIRMWARE_CODES[code].name.lower().replace('_', '-')}"
        assert item.cause and item.remedy


def test_an_unknown_code_or_text_is_not_guessed() -> None:
    assert explain_code(0x999).id == "firmware.unknown"
    assert explain("something nobody has ever seen") == ()
    assert explain("") == ()


def test_several_errors_come_in_the_order_of_the_text() -> None:
    text = "Could not open '/dev/sev': No such file\nfailed: fw_error=0x20\nparameter length of 3 not equal to 32"
    assert [item.id for item in explain(text)][:3] == ["sev.device", "firmware.rmp-init-required", "qemu.host-data"]


def test_ids_are_unique_and_patterns_compile() -> None:
    ids = [item.id for item in _KNOWN]
    assert len(ids) == len(set(ids))
    assert all(re.compile(item.pattern) for item in _KNOWN)


@given(st.text(max_size=400))
def test_any_text_at_all_is_read(text: str) -> None:
    explain(text)
