"""The real QEMU and the real ``OVMF.amdsev.fd``: the command line for hardware this machine lacks parses to the one
error that the missing hardware causes, and the firmware enforces the boot hash table. No guest image is needed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from launcher.cli import main
from launcher.io.host import probe_host
from launcher.io.toolchain import Toolchain, ToolchainMissing, find_toolchain

pytestmark = pytest.mark.qemu

VM = """
schema = 1
name = "{name}"
platform = "{platform}"
memory = "256MiB"
accel = "{accel}"
[cpu]
count = 2
[boot]
kernel = "kernel"
initrd = "initrd"
[[disk]]
path = "disk.img"
[[net]]
kind = "user"
forward = ["tcp:127.0.0.1:{port}-:22"]
[emulator]
state = "chip"
"""


@pytest.fixture(scope="module")
def tools() -> Toolchain:
    try:
        return find_toolchain()
    except ToolchainMissing as exc:
        pytest.skip(exc.message)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kernel that is just enough for QEMU to take it, an initrd, a disk."""
    made = tmp_path_factory.mktemp("real qemu")
    kernel = bytearray(4096)
    kernel[0x1F1] = 1  # setup sectors
    kernel[0x1FE:0x206] = b"\x55\xaa\0\0HdrS"
    kernel[0x206:0x208] = (0x20F).to_bytes(2, "little")  # boot protocol 2.15
    kernel[0x211] = 1  # loaded high
    kernel[0x22C:0x230] = (0x7FFFFFFF).to_bytes(4, "little")  # highest initrd address
    (made / "kernel").write_bytes(kernel)
    (made / "stub").write_bytes(_with_stub(kernel))
    (made / "initrd").write_bytes(b"no initrd\n" * 100)
    (made / "disk.img").write_bytes(bytes(1 << 20))
    return made


def _with_stub(kernel: bytearray) -> bytes:
    """The same file as a PE image, as which a TD's firmware would load it: one section behind the setup header."""
    image = bytearray(kernel)
    image[0:2], image[0x3C:0x40] = b"MZ", (0x40).to_bytes(4, "little")
    optional = bytearray(112 + 16 * 8)
    optional[0:2] = (0x20B).to_bytes(2, "little")
    optional[60:64], optional[108:112] = (0x400).to_bytes(4, "little"), (16).to_bytes(4, "little")
    section = b".text".ljust(8, b"\0") + (3072).to_bytes(4, "little") * 2 + (3072).to_bytes(4, "little")
    section += (0x400).to_bytes(4, "little") + bytes(16)
    header = b"PE\0\0" + b"\x64\x86\x01\0" + bytes(12) + len(optional).to_bytes(2, "little") + bytes(2)
    placed = header + optional + section
    image[0x40 : 0x40 + len(placed)] = placed
    return bytes(image)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CVM_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def vm(folder: Path, platform: str, *, accel: str = "auto", port: int = 22822) -> Path:
    path = folder / f"{platform}.toml"
    text = VM.format(name=platform, platform=platform, accel=accel, port=port)
    path.write_text(text.replace('"kernel"', '"stub"') if platform.endswith("tdx") else text)
    return path


def plan(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["plan", str(path), "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


@pytest.mark.parametrize(("platform", "bit", "name"), [("sev-snp", 4, "SEV-SNP"), ("tdx", 5, "TDX")])
def test_the_command_line_stops_at_the_missing_hardware_and_nowhere_before(
    platform: str, bit: int, name: str, tools: Toolchain, folder: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if probe_host().kvm.has_type(bit):
        pytest.skip(f"this host can run {name}")
    document = plan(vm(folder, platform), capsys)
    done = subprocess.run(
        document["argv"], cwd=tmp_path, env={**os.environ, **document["environment"]},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    said = [
        re.sub(r"^\S*qemu-system-x86_64: ", "", line) for line in done.stderr.splitlines() if "warning:" not in line
    ]
    assert done.returncode == 1
    if probe_host().kvm.vm_types is not None:
        assert said == [f"vm-type {name} not supported by KVM"]
    else:
        assert all("kvm" in line.lower() for line in said), said


def test_what_a_td_would_be_shown_is_read_from_this_qemu_and_measured(
    tools: Toolchain, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = plan(vm(folder, "emulated-tdx"), capsys)
    assert document["mrtd"] == document["launch_digest"]
    assert [value is None for value in document["rtmr"]] == [False, False, False, True]
    assert plan(vm(folder, "tdx"), capsys)["mrtd"] == document["mrtd"]


def test_an_ordinary_vm_starts_and_is_stopped(
    tools: Toolchain, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["launch", str(vm(folder, "none", accel="tcg")), "--detach", "--timeout", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["state"], result["outcome"]) == ("running", "ran")
    assert main(["stop", "none", "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "stopped"


def test_the_firmware_finds_nothing_to_boot_in_a_kernel_that_is_none(
    tools: Toolchain, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The hash table is right, so the firmware tries the file, which is no EFI program, and says so."""
    assert main(["launch", str(vm(folder, "emulated-snp")), "--json"]) == 9
    result = json.loads(capsys.readouterr().out)
    assert result["code"] == "firmware.refused-kernel"
    assert "found nothing it may boot: BdsDxe:" in result["reason"]
    assert result["launch_digest"] == result["planned_digest"]


@pytest.mark.parametrize("part", ["kernel", "initrd"])
def test_the_firmware_itself_refuses_a_file_that_does_not_match_the_measured_hash(
    part: str, tools: Toolchain, folder: Path, tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = vm(folder, "emulated-snp")
    main(["launch", str(path), "--json"])
    capsys.readouterr()
    approved = tmp_path / "approved.bin"
    approved.write_bytes((state / "emulated-snp" / "hashes.bin").read_bytes())
    data = (folder / part).read_bytes()
    try:
        (folder / part).write_bytes(data + b"\1")
        assert main(["launch", str(path), "--json", "--hash-table", str(approved)]) == 9
    finally:
        (folder / part).write_bytes(data)
    result = json.loads(capsys.readouterr().out)
    assert result["code"] == "firmware.refused-kernel"
    assert result["reason"].startswith(f"the firmware refused to start the kernel: {part}: measured ")
    assert result["seconds"]["firmware_refused"] < 60


def test_a_disk_in_use_is_not_opened_twice(tools: Toolchain, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = vm(folder, "none", accel="tcg")
    assert main(["launch", str(path), "--detach", "--timeout", "2", "--quiet"]) == 0
    try:
        second = folder / "second.toml"
        second.write_text(VM.format(name="second", platform="none", accel="tcg", port=22823))
        capsys.readouterr()
        assert main(["launch", str(second)]) == 9
        assert 'Failed to get "write" lock' in capsys.readouterr().err
    finally:
        assert main(["stop", "none", "--force"]) == 0


def test_doctor_finds_this_toolchain(tools: Toolchain, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--platform", "emulated-snp"]) == 0
    assert f"QEMU {tools.version}" in capsys.readouterr().out
