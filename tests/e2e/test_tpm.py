"""An ordinary VM with a TPM: a real swtpm in its jail, used by real firmware; what it remembers outlives the launch."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path
from shutil import which

import pytest

from launcher.cli import main
from launcher.io.toolchain import ToolchainMissing, find_toolchain
from tests.e2e.test_reboot import boot_sector
from tests.until import until

pytestmark = [pytest.mark.qemu, pytest.mark.skipif(which("swtpm") is None, reason="needs swtpm")]

VM = """
schema = 1
name = "trusting"
platform = "none"
memory = "128MiB"
accel = "tcg"
[boot]
firmware = "{bios}"
[[disk]]
path = "disk.img"
[devices]
tpm = true
"""
READ_CLOCK = bytes.fromhex("80010000000a00000181")


def resets(state: Path, tmp_path: Path) -> int:
    """TPMS_CLOCK_INFO.resetCount: how often this TPM was started, kept in its state (TPM 2.0, part 3, TPM2_ReadClock)."""
    argv = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--flags", "not-need-init,startup-clear",
            "--ctrl", "type=unixio,path=ctrl", "--server", "type=unixio,path=data"]  # fmt: skip
    child = subprocess.Popen(argv, cwd=tmp_path)
    try:
        until((tmp_path / "data").exists, "swtpm listens")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "data"))
            client.sendall(READ_CLOCK)
            answer = client.recv(100)
    finally:
        child.kill()
        child.wait()
    assert answer[6:10] == bytes(4), answer.hex()
    return int.from_bytes(answer[26:30], "big")


def jailed(name: str) -> dict[str, str]:
    """/proc/PID/status of the one process of that name whose root is not ours."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            text = Path(f"/proc/{pid}/status").read_text()
            shown = os.readlink(f"/proc/{pid}/ns/mnt")
        except OSError:
            continue
        if text.startswith(f"Name:\t{name}\n") and shown != os.readlink("/proc/self/ns/mnt"):
            return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    raise AssertionError(f"no {name} in a mount namespace of its own")


def test_a_tpm_is_used_by_the_firmware_jailed_and_remembers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        bios = Path(find_toolchain().firmware_dir).parent / "seabios" / "bios-256k.bin"
    except ToolchainMissing as exc:
        pytest.skip(exc.message)
    monkeypatch.setenv("CVM_STATE", str(tmp_path / "state"))
    (tmp_path / "disk.img").write_bytes(
        boot_sector().replace(b"\xb0\xfe\xe6\x64", b"\xf4\xeb\xfd\x90").ljust(1 << 20, b"\0")
    )
    (tmp_path / "vm.toml").write_text(VM.format(bios=bios))
    for _ in range(2):
        assert main(["launch", str(tmp_path / "vm.toml"), "--detach", "--timeout", "3", "--json"]) == 0, (
            capsys.readouterr().err
        )
        told = capsys.readouterr()
        assert json.loads(told.out)["state"] in ("booted", "running")
        assert "isolation of the TPM: mount namespace" in told.err
        found = jailed("swtpm")
        assert (found["NoNewPrivs"], found["CapEff"]) == ("1", "0" * 16)
        assert os.geteuid() != 0 or int(found["Uid"].split()[0]) > 1_900_000_000
        assert main(["stop", "trusting", "--force"]) == 0
        capsys.readouterr()
    with pytest.raises(AssertionError):
        jailed("swtpm")
    assert resets(tmp_path / "state/trusting/vtpm/state", tmp_path) > 2
