"""SVSM, SEV, SEV-ES, further monitors, and the digest step by step."""

from __future__ import annotations

import json
from pathlib import Path
from struct import pack

import pytest

from ovmf.errors import FirmwareMalformed, KernelNotMeasurable, LaunchInvalid
from ovmf.footer import SEV_METADATA
from ovmf.kernel_hashes import NO_INITRD, KernelHashes, cmdline_hash
from ovmf.sev_launch import sev_es_launch_digest, sev_launch_digest
from ovmf.snp_launch import Firmware, snp_launch_digest
from ovmf.steps import launch_steps, vmsa_pages
from ovmf.svsm import SVSM_INFO, Svsm, svsm_launch_digest, svsm_vmsa_page
from ovmf.vmm import VMMS
from tests.fakes import firmware as fake

NOTHING = KernelHashes(NO_INITRD, NO_INITRD, cmdline_hash(b""))
CONSOLE = KernelHashes(NO_INITRD, NO_INITRD, cmdline_hash(b"console=ttyS0 loglevel=7"))


@pytest.fixture
def folder(vectors: Path) -> Path:
    return vectors / "snp" / "measurement"


def test_svsm_digests_are_those_of_the_known_tool(folder: Path) -> None:
    rows = [row for row in json.loads((folder / "synthetic.json").read_text())["rows"] if "svsm" in row]
    assert rows
    for row in rows:
        digest = svsm_launch_digest(
            (folder / row["firmware"]).read_bytes(),
            (folder / row["svsm"]).read_bytes(),
            variable_store_size=row["ovmf_vars_size"],
            vcpus=row["vcpus"],
            vcpu_sig=int(row["vcpu_sig"], 16),
        )
        assert digest.hex() == row["launch_digest"]


def test_sev_and_sev_es_digests_are_those_of_the_known_tool(folder: Path) -> None:
    known = json.loads((folder / "upstream.json").read_text())["legacy"]
    firmware = (folder / "ovmf_AmdSev_suffix.bin").read_bytes()
    assert sev_launch_digest(firmware, NOTHING).hex() == known["sev_kernel_only"]
    assert sev_launch_digest(firmware, CONSOLE).hex() == known["sev_devnull_console"]
    for vcpus in (1, 4):
        digest = sev_es_launch_digest(firmware, vcpus=vcpus, vcpu_sig=0x800F12, hashes=NOTHING)
        assert digest.hex() == known[f"sev_es_{vcpus}vcpu_devnull"]


def test_ec2_with_rdx_zero_is_what_virtee_computes(folder: Path) -> None:
    text = json.loads((folder / "upstream.json").read_text())["disagreement"]
    firmware = Firmware.from_bytes((folder / "ovmf_AmdSev_suffix.bin").read_bytes())
    for features in (0x1, 0x21):
        digest = snp_launch_digest(
            firmware, vcpus=1, vcpu_sig=0, guest_features=features, hashes=NOTHING, vmm="ec2-zero-rdx"
        )
        assert f"0x{features:x} -> {digest.hex()}" in text


def test_no_two_monitors_measure_alike(small: Firmware) -> None:
    digests = {snp_launch_digest(small, vcpus=2, vcpu_sig=0x800F12, hashes=None, vmm=name) for name in VMMS}
    assert len(digests) == len(VMMS)


def test_a_kernel_without_a_place_for_its_hashes_is_refused() -> None:
    bare = fake.image(fake.standard_entries()[:1])
    for compute in (
        lambda: sev_launch_digest(bare, NOTHING),
        lambda: sev_es_launch_digest(bare, vcpus=1, vcpu_sig=0x800F12, hashes=NOTHING),
    ):
        with pytest.raises(KernelNotMeasurable):
            compute()
    assert len(sev_launch_digest(bare, None)) == 32


def svsm(offset: int = 0x10, *, sections: list[tuple[int, int, int]] | None = None) -> bytes:
    entries = [fake.entry(SVSM_INFO, pack("<I", offset)), fake.entry(SEV_METADATA, pack("<I", fake.METADATA_FROM_END))]
    return fake.image(entries, fake.metadata(sections or [(0x9000, 0x1000, 2), (0xA000, 0x1000, 3)]))


def test_an_svsm_lies_below_the_variable_store() -> None:
    placed = Svsm(svsm(), 0xFFC00000 - 0x84000)
    assert (placed.gpa, placed.rip) == (0xFFC00000 - 0x84000 - 8192, 0xFFC00000 - 0x84000 - 8192 + 0x10)


@pytest.mark.parametrize(
    ("binary", "size", "error"),
    [
        (fake.image(), 0x1000, FirmwareMalformed),
        (svsm()[:-1], 0x1000, FirmwareMalformed),
        (svsm(0x2000), 0x1000, FirmwareMalformed),
        (svsm(), 0x1001, LaunchInvalid),
        (svsm(), -4096, LaunchInvalid),
    ],
    ids=["no SVSM", "half a page", "start behind the end", "half a page of variables", "negative"],
)
def test_an_svsm_that_cannot_be_placed_is_refused(binary: bytes, size: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        svsm_launch_digest(fake.image(), binary, variable_store_size=size, vcpus=1, vcpu_sig=0x800F12)


def test_the_svsm_vmsa_is_in_protected_mode() -> None:
    page = svsm_vmsa_page(0x12345678, 0x800F12)
    assert page[0x158] == 0x11
    assert page[0x178:0x180] == (0x12345678).to_bytes(8, "little")
    assert len(page) == 4096


@pytest.mark.parametrize("vmm", VMMS)
@pytest.mark.parametrize("hashes", [None, CONSOLE], ids=["no kernel", "kernel"])
def test_the_last_step_is_the_launch_digest(small: Firmware, vmm: str, hashes: KernelHashes | None) -> None:
    steps = launch_steps(small, vcpus=3, vcpu_sig=0x800F12, hashes=hashes, vmm=vmm)
    assert steps[-1].digest == snp_launch_digest(small, vcpus=3, vcpu_sig=0x800F12, hashes=hashes, vmm=vmm)
    assert steps[0].digest == small.ld
    assert len(steps) == 1 + len(fake.AMDSEV_SECTIONS) + 3


def test_the_vmsa_pages_hold_signature_and_features(small: Firmware) -> None:
    first, other = vmsa_pages(small, vcpu_sig=0xA00F11, guest_features=0x21, vmm="qemu")
    assert first != other
    for page in (first, other):
        assert page[0x310:0x318] == (0xA00F11).to_bytes(8, "little")
        assert page[0x3B0:0x3B8] == (0x21).to_bytes(8, "little")
