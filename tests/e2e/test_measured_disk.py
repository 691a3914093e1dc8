"""``cvm measure`` held against a launch from a disk: a unified kernel image with systemd's own stub."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from attest.evidence.quote import parse_quote
from attest.evidence.td_report import TdReportBody
from launcher.cli import main
from launcher.core.debian import Suite
from launcher.core.names import SERIAL_LOG
from launcher.io.apt import AptFolder
from launcher.io.cachedir import cache_folder, exclusive
from launcher.io.mirrors import FetchFailed
from ovmf.td_disk import DEFAULT_PATH
from tests.e2e.test_measured_td import answer, image, quote_from
from tests.e2e.world import wait_until_booted
from tests.fakes.disks import fat16_of, gpt_disk
from tests.fakes.unified import unified

__all__ = ["image"]
pytestmark = [pytest.mark.e2e, pytest.mark.qemu, pytest.mark.timeout(300)]

RELEASE, STUB = "trixie", "usr/lib/systemd/boot/efi/linuxx64.efi.stub"  # release 257
VM = """
schema = 1
name = "disk"
platform = "emulated-tdx"
memory = "512MiB"
[boot]
[[disk]]
path = "disk.img"
[[disk]]
path = "other.img"
[[net]]
kind = "user"
[emulator]
state = "chip"
"""


@pytest.fixture
def stub(tmp_path: Path) -> bytes:
    home = cache_folder() / f"apt-{RELEASE}"
    try:
        with exclusive(home.with_name(f"{home.name}-stub.lock")):
            [package] = AptFolder(home, Suite(RELEASE), print).fetch(("systemd-boot-efi",))
    except FetchFailed as exc:
        pytest.skip(f"no stub: {exc.message}")
    subprocess.run(("dpkg-deb", "-x", package.path, tmp_path / "stub"), check=True)
    return (tmp_path / "stub" / STUB).read_bytes()


def registers_of_started_kernel(state: Path, launch: subprocess.Popen[bytes]) -> list[str]:
    """Four registers once the kernel speaks: boot services have ended then."""
    wait_until_booted(state / SERIAL_LOG, launch, b"Linux version")
    report = parse_quote(quote_from(state / "emulator.sock")).body
    assert isinstance(report, TdReportBody)
    return [value.hex() for value in report.rtmrs]


def test_a_unified_kernel_image_from_a_disk_has_the_registers_measured_from_the_vm_file(
    image: Path, stub: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CVM_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    parts = {
        ".osrel": b"ID=x\n", ".cmdline": b"console=ttyS0 panic=-1", ".uname": b"6", ".initrd": b"an initrd of odd size",
        ".linux": (image / "vmlinuz").read_bytes(),
    }  # fmt: skip
    volume = fat16_of({DEFAULT_PATH: unified(stub, parts)}, clusters=8000, per_cluster=4)
    Path("disk.img").write_bytes(gpt_disk(volume))
    Path("other.img").write_bytes(bytes(1 << 20))
    Path("disk.toml").write_text(VM)
    measured = answer(capsys, "measure", "disk.toml", "--exit-failures", "1")
    assert measured["unpredicted"] == ["RTMR3: what the guest extends while it runs"]
    argv = [sys.executable, "-m", "launcher", "launch", "disk.toml"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as launch:
        try:
            found = registers_of_started_kernel(tmp_path / "state" / "disk", launch)
        finally:
            main(["stop", "disk", "--force"])
    assert found[:3] == measured["rtmr"][:3]
