"""Debian's signed shim, GRUB and kernel boot from an installed disk with Secure Boot on, and measure the prediction."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest

from attest.evidence.quote import parse_quote
from attest.evidence.td_report import TdReportBody
from launcher.io.apt import AptFolder
from launcher.io.cachedir import cache_folder, exclusive
from launcher.io.machine_probe import probe_machine
from launcher.io.mirrors import FetchFailed
from launcher.io.toolchain import Toolchain, ToolchainMissing, find_toolchain
from launcher.io.toolchain_fetch import TOOLCHAIN_SUITE
from ovmf.boot_options import BootOption
from ovmf.gpt import EFI_SYSTEM
from ovmf.guid import efi_guid
from ovmf.td_disk import DEFAULT_PATH, DiskBoot
from ovmf.td_firmware import TdFirmware
from ovmf.td_predict import Machine, TdMeasurement, predict_td
from policy.reference_tdx import FLAVOUR_EMULATED
from tests.e2e.test_measured_td import quote_from
from tests.e2e.world import wait_until_booted
from tests.fakes.debian_disk import FIRST_CONFIG, LINUX, ext4, installed
from tests.fakes.disks import fat16_of, gpt_of
from tests.until import PATIENCE

pytestmark = [pytest.mark.e2e, pytest.mark.qemu, pytest.mark.timeout(1200)]

MEMORY = 768 << 20
SIGNED = ("shim-signed", "grub-efi-amd64-signed")
# The option firmware makes for the disk in slot 1: PciRoot(0)/Pci(1,0), and its mark of an option made by itself.
DISK_OPTION = BootOption(2, b"\1\0\0\0\x16\0" + "UEFI Misc Device\0".encode("utf-16-le") + bytes.fromhex(
    "02010c00d041030a000000000101060000017fff0400") + efi_guid("8108ac4e-9f11-4d59-850e-e21a522c59b2"))  # fmt: skip


@pytest.fixture
def tools() -> Toolchain:
    if not (cache_folder() / "image" / "manifest.json").is_file() or which("swtpm") is None:
        pytest.skip("no guest image in the cache, or no swtpm: `make test` sees to both")
    try:
        found = find_toolchain()
    except ToolchainMissing as exc:
        pytest.skip(exc.message)
    if not flash(found, "CODE").is_file():
        pytest.skip("no OVMF with Secure Boot keys beside this QEMU")
    return found


def flash(tools: Toolchain, part: str) -> Path:
    return Path(tools.firmware_dir).parent / "OVMF" / f"OVMF_{part}_4M.ms.fd"


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    """The packages' files."""
    home = cache_folder() / "apt-forky"
    try:
        with exclusive(home.with_name("apt-forky-signed.lock")):
            packages = AptFolder(home, TOOLCHAIN_SUITE, print).fetch(SIGNED)
    except FetchFailed as exc:
        pytest.skip(f"no signed boot loaders: {exc.message}")
    for package in packages:
        if package.name in SIGNED:
            subprocess.run(("dpkg-deb", "-x", package.path, tmp_path / "signed"), check=True)
    return tmp_path / "signed" / "usr" / "lib"


def machine_options(tools: Toolchain) -> list[str]:
    return [
        *tools.qemu_argv, "-nodefaults", "-no-user-config", "-display", "none",
        "-machine", "q35,accel=tcg,smm=on,vmport=off,hpet=off,usb=off,sata=off,smbus=off,graphics=off",
        "-global", "driver=cfi.pflash01,property=secure,value=on",
        "-cpu", "EPYC-v4,phys-bits=46", "-smp", "2", "-m", f"{MEMORY >> 20}M",
        "-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={flash(tools, 'CODE')}",
        "-drive", f"if=pflash,format=raw,unit=1,snapshot=on,file={Path.cwd() / 'vars.fd'}",
        "-drive", f"if=none,id=disk,format=raw,readonly=on,file={Path.cwd() / 'disk.img'}",
        "-device", "tpm-crb,tpmdev=tpm0",
        "-device", "virtio-blk-pci,drive=disk,addr=1,disable-legacy=on,iommu_platform=on,bootindex=0",
    ]  # fmt: skip


def predict(tools: Toolchain, disk: bytes, image: bytes) -> TdMeasurement:
    shown = probe_machine([*machine_options(tools), "-serial", "null"], tools.env, tpm=True, smm=True)
    firmware = TdFirmware.from_bytes(image)
    options = (DISK_OPTION, *firmware.layout.boot_options)
    machine = Machine(MEMORY, shown.acpi, shown.smbios, shown.fw_cfg, options)
    return predict_td(firmware, machine, DiskBoot(disk, exit_failures=0), flavour=FLAVOUR_EMULATED)


def quoted(chip: Path) -> TdReportBody:
    report = parse_quote(quote_from(chip)).body
    assert isinstance(report, TdReportBody)
    return report


@pytest.fixture
def emulator(tmp_path: Path, tools: Toolchain) -> Iterator[Path]:
    """A chip whose TD has the firmware ``firmware.fd``."""
    (tmp_path / "firmware.fd").write_bytes(flash(tools, "VARS").read_bytes() + flash(tools, "CODE").read_bytes())
    argv = [
        sys.executable, "-m", "attest.emulator", "td", "--state", "state", "--socket", "chip.sock",
        "--tpm-socket", "tpm.sock", "--tpm-state", "tpm", "--firmware", "firmware.fd",
    ]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(argv, cwd=tmp_path, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert select.select([child.stdout], [], [], PATIENCE)[0]
        yield tmp_path / "chip.sock"
        child.stdin.close()
        assert child.wait(PATIENCE) == 0


def installed_disk(signed: Path, folder: Path) -> bytes:
    """An EFI system partition and an ext4 root, as an installer leaves them."""
    kernel = (cache_folder() / "image" / "vmlinuz").read_bytes()
    system = fat16_of({
        DEFAULT_PATH: (signed / "shim/shimx64.efi.signed").read_bytes(),
        "EFI/BOOT/GRUBX64.EFI": (signed / "grub/x86_64-efi-signed/grubx64.efi.signed").read_bytes(),
        "EFI/DEBIAN/GRUB.CFG": FIRST_CONFIG.encode(),
    }, clusters=5000, per_cluster=4)  # fmt: skip
    files = installed(kernel, b"enough for the kernel to begin..")  # the test is over before it is unpacked
    return gpt_of((EFI_SYSTEM, system), (LINUX, ext4(folder, files, size="32M")))


def test_an_installed_debians_boot_measures_what_was_predicted_with_secure_boot_on(
    tools: Toolchain, signed: Path, emulator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    disk = installed_disk(signed, tmp_path)
    Path("disk.img").write_bytes(disk)
    Path("vars.fd").write_bytes(flash(tools, "VARS").read_bytes())
    predicted = predict(tools, disk, Path("firmware.fd").read_bytes())
    assert predicted.unpredicted == ("RTMR3: what the guest extends while it runs",)
    argv = [
        *machine_options(tools), "-chardev", "socket,id=tpmchar0,path=tpm.sock",
        "-tpmdev", "emulator,id=tpm0,chardev=tpmchar0", "-serial", "file:serial.log", "-action", "reboot=shutdown",
    ]  # fmt: skip
    with subprocess.Popen(argv, env={**os.environ, **tools.env}, stderr=subprocess.DEVNULL) as qemu:
        try:
            wait_until_booted(tmp_path / "serial.log", qemu, b"Linux version")
            report = quoted(emulator)
        finally:
            qemu.kill()
    assert list(report.rtmrs[:3]) == list(predicted.rtmrs[:3])
    assert report.mrtd == predicted.mrtd
