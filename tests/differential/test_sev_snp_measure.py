"""Side by side with sev-snp-measure, the tool operators use today: every digest is the same."""

from __future__ import annotations

import hashlib
from itertools import product
from pathlib import Path

import pytest

from ovmf.kernel_hashes import KernelHashes, cmdline_hash
from ovmf.snp_launch import Firmware, snp_launch_digest
from ovmf.vcpu import vcpu_signature
from tests.fakes import firmware as fake
from tests.fakes.ovmf_images import real_amdsev

guest = pytest.importorskip("sevsnpmeasure.guest", reason="sev-snp-measure is not installed")
from sevsnpmeasure.sev_mode import SevMode  # noqa: E402
from sevsnpmeasure.vcpu_types import CPU_SIGS  # noqa: E402
from sevsnpmeasure.vmm_types import VMMType  # noqa: E402

CMDLINE = "console=ttyS0 root=/dev/mapper/root"


@pytest.fixture(scope="module")
def boot_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("boot")
    kernel, initrd = folder / "kernel", folder / "initrd"
    kernel.write_bytes(hashlib.shake_128(b"kernel").digest(300_001))
    initrd.write_bytes(hashlib.shake_128(b"initrd").digest(500_003))
    return kernel, initrd


@pytest.fixture(scope="module")
def real() -> tuple[Path, Firmware]:
    path = real_amdsev()
    if path is None:
        pytest.skip("no OVMF.amdsev.fd: set CVM_OVMF, or let the project fetch its toolchain")
    return path, Firmware.from_bytes(path.read_bytes())


def ours(firmware: Firmware, vcpus: int, model: str, boot: tuple[Path, Path] | None, vmm: str, features: int) -> str:
    hashes = None
    if boot is not None:
        kernel, initrd = (hashlib.sha256(path.read_bytes()).digest() for path in boot)
        hashes = KernelHashes(kernel, initrd, cmdline_hash(CMDLINE.encode()))
    return snp_launch_digest(
        firmware, vcpus=vcpus, vcpu_sig=vcpu_signature(model), guest_features=features, hashes=hashes, vmm=vmm
    ).hex()


def theirs(path: Path, vcpus: int, model: str, boot: tuple[Path, Path] | None, vmm: str, features: int) -> str:
    kernel, initrd = (str(item) for item in boot) if boot else (None, None)
    digest = guest.calc_launch_digest(
        SevMode.SEV_SNP, vcpus, CPU_SIGS[model], str(path), kernel, initrd, CMDLINE if boot else None, features,
        vmm_type=VMMType[vmm.upper() if vmm == "qemu" else vmm],
    )  # fmt: skip
    return str(digest.hex())


@pytest.mark.parametrize("measured_boot", [False, True], ids=["no kernel", "kernel hashes"])
@pytest.mark.parametrize("model", ["EPYC-v4", "EPYC-Milan", "EPYC-Genoa"])
@pytest.mark.parametrize("vcpus", [1, 2, 8, 64])
def test_the_real_firmware_measures_alike(
    real: tuple[Path, Firmware], boot_files: tuple[Path, Path], vcpus: int, model: str, measured_boot: bool
) -> None:
    path, firmware = real
    boot = boot_files if measured_boot else None
    assert ours(firmware, vcpus, model, boot, "qemu", 1) == theirs(path, vcpus, model, boot, "qemu", 1)


@pytest.mark.parametrize(("vmm", "features"), [*product(["qemu", "ec2", "gce"], [0x1, 0x21, 0x3F])])
def test_a_made_up_firmware_measures_alike_with_every_monitor(
    tmp_path: Path, boot_files: tuple[Path, Path], vmm: str, features: int
) -> None:
    path = tmp_path / "small.fd"
    path.write_bytes(fake.image())
    firmware = Firmware.from_bytes(fake.image())
    for boot in (None, boot_files):
        assert ours(firmware, 3, "EPYC-Rome", boot, vmm, features) == theirs(path, 3, "EPYC-Rome", boot, vmm, features)


def test_every_model_it_knows_has_the_same_signature() -> None:
    assert {name: vcpu_signature(name) for name in CPU_SIGS} == CPU_SIGS
