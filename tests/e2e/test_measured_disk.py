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
from launcher.core.names import SERIAL_LOG
from launcher.io.mirrors import FetchFailed
from tests.e2e.test_measured_td import answer, image, quote_from
from tests.e2e.world import wait_until_booted

__all__ = ["image"]
pytestmark = [pytest.mark.e2e, pytest.mark.qemu, pytest.mark.timeout(1200)]

BOOT = """[boot]
kernel = "{image}/vmlinuz"
initrd = "initrd"
cmdline = "panic=-1"
"""
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


def registers_of_started_kernel(state: Path, launch: subprocess.Popen[bytes]) -> list[str]:
    """Four registers once the kernel speaks: boot services have ended then."""
    wait_until_booted(state / SERIAL_LOG, launch, b"Linux version")
    report = parse_quote(quote_from(state / "emulator.sock")).body
    assert isinstance(report, TdReportBody)
    return [value.hex() for value in report.rtmrs]


def test_a_unified_kernel_image_from_a_disk_has_the_registers_measured_from_the_vm_file(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CVM_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    Path("kernel.toml").write_text(VM.replace("[boot]", BOOT.format(image=image)).replace('"disk.img"', '"none.img"'))
    Path("initrd").write_bytes(b"an initrd of odd size")
    try:
        made = answer(capsys, "image", "uki", "disk.img", "kernel.toml")
    except FetchFailed as exc:
        pytest.skip(f"no stub: {exc.message}")
    assert made["cmdline"] == "panic=-1 console=ttyS0 cvm.net=10.0.2.15/24,10.0.2.2 cvm.evidence=emulated"
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
