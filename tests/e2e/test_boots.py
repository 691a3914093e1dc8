"""The real guest image on the real QEMU, without a service: it boots, reports, is listed, attached to and stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from launcher.cli import main
from launcher.io.cachedir import cache_folder
from launcher.io.toolchain import ToolchainMissing, find_toolchain
from tests.until import PATIENCE, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

CVM = str(Path(sys.executable).parent / "cvm")
VM = """
schema = 1
name = "{name}"
platform = "{platform}"
memory = "512MiB"
[cpu]
count = 2
[boot]
kernel = "{image}/vmlinuz"
initrd = "{image}/initrd.zst"
[[net]]
kind = "user"
[guest]
poweroff = {poweroff}
"""


@pytest.fixture(scope="module")
def image() -> Path:
    folder = cache_folder() / "image"
    if not (folder / "manifest.json").is_file():
        pytest.skip("no guest image in the cache: `make test` builds it")
    try:
        find_toolchain()
    except ToolchainMissing as exc:
        pytest.skip(exc.message)
    return folder


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVM_STATE", str(tmp_path / "state"))


def vm(folder: Path, image: Path, platform: str, *, poweroff: bool) -> str:
    path = folder / f"{platform}.toml"
    path.write_text(VM.format(name=platform, platform=platform, image=image, poweroff=str(poweroff).lower()))
    return str(path)


def test_the_image_boots_reports_and_powers_off(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Measured, see `test_root`."""
    assert main(["launch", vm(tmp_path, image, "none", poweroff=True), "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (result["state"], result["outcome"]) == ("stopped", "ran")
    assert {"kernel", "booted", "running", "stopped"} <= set(result["seconds"])
    assert main(["events", "none", "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in told if event["source"] == "guest"] == ["booted", "running", "stopped"]
    assert [event["event"] for event in told if event["source"] == "launcher"] == ["launch", "end"]
    assert [item["event"] for item in result["events"] if item["source"] == "guest"] == ["booted", "running", "stopped"]


def test_a_detached_vm_shows_its_console_gives_memory_back_and_obeys_the_power_button(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(vm(tmp_path, image, "none", poweroff=False))
    path.write_text(path.read_text() + '[ram]\nmax = "640MiB"\n')
    assert main(["launch", str(path), "--detach", "--json"]) == 0
    try:
        console = subprocess.Popen(
            [sys.executable, "-m", "launcher", "console", "none"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        until(lambda: _state(capsys) == "running", "the agent runs")
        assert console.stdin is not None and console.stdout is not None
        shown = b""
        while b"cvm: " not in shown:
            shown += os.read(console.stdout.fileno(), 4096)
        console.stdin.write(b"\x1d")
        console.stdin.flush()
        assert console.wait(PATIENCE) == 0
        assert b"\x1b" not in shown
        assert _memory(capsys, "640MiB")["plugged"] == 128 << 20
        serial = tmp_path / "state" / "none" / "serial.log"
        # Once at boot, and once more when the module is in use. "Normal" would be memory of the kernel's own.
        until(
            lambda: serial.read_bytes().count(b"Policy zone: DMA32") > 1, "the module is in use, but not the kernel's"
        )
        until(lambda: _memory(capsys, "512MiB")["plugged"] == 0, "the guest gives the module back")
    finally:
        assert main(["stop", "none"]) == 0
    assert _state(capsys) == "stopped"


def test_a_light_vm_boots_without_firmware_of_a_pc_and_finds_its_disk(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "disk.img").write_bytes(bytes(1 << 20))
    path = Path(vm(tmp_path, image, "none", poweroff=True))
    text = path.read_text().replace("schema = 1", "schema = 1\nlight = true")
    path.write_text(text + '[[disk]]\npath = "disk.img"\n')
    assert main(["launch", str(path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["outcome"], result["state"]) == ("ran", "stopped")
    assert "booted" in result["seconds"]
    argv = json.loads((tmp_path / "state" / "none" / "vm.json").read_text())["argv"]
    assert argv[argv.index("-bios") + 1].endswith("qboot.rom")
    assert "virtio_blk virtio" in (tmp_path / "state" / "none" / "serial.log").read_text(errors="replace")


def test_an_ordinary_vm_moves_while_it_runs_and_stays_when_it_cannot(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two state folders are two hosts. Whoever waits with another amount of memory gets nothing, and nothing is lost."""
    here, there = str(tmp_path / "state"), str(tmp_path / "there")
    where = f"unix:{tmp_path}/m.sock"
    path = Path(vm(tmp_path, image, "none", poweroff=False))
    text = path.read_text().replace("schema = 1", "schema = 1\nlight = true").partition("[[net]]")[0]
    path.write_text(text)
    other = tmp_path / "other.toml"
    other.write_text(text.replace("512MiB", "640MiB"))
    assert main(["launch", str(path), "--detach", "--quiet"]) == 0
    assert main(["migrate", "none", "--to", where]) == 10
    assert "has to wait there first" in capsys.readouterr().err
    for waiting, expected in ((other, 10), (path, 0)):
        with subprocess.Popen([CVM, "launch", str(waiting), "--incoming", where, "--quiet"],
                              env={**os.environ, "CVM_STATE": there}, stderr=subprocess.PIPE) as arrival:  # fmt: skip
            until((tmp_path / "m.sock").exists)
            time.sleep(1)
            assert main(["migrate", "none", "--to", where, "--json"]) == expected
            said = capsys.readouterr()
            if expected:
                assert "was not moved and goes on here" in said.err
                assert _state(capsys) in ("booted", "running")
                assert arrival.wait(PATIENCE) == 9
                (tmp_path / "m.sock").unlink(missing_ok=True)
                continue
            assert json.loads(said.out)["reason"].startswith(f"moved to {where} in ")
            monkeypatch.setenv("CVM_STATE", there)
            until(lambda: _state(capsys) == "running")
            assert main(["stop", "none", "--json"]) == 0
            monkeypatch.setenv("CVM_STATE", here)
            assert _state(capsys) == "stopped"


def _memory(capsys: pytest.CaptureFixture[str], size: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["memory", "none", size, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def _state(capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    main(["ps", "--json"])
    rows = json.loads(capsys.readouterr().out)["vms"]
    return str(rows[0]["state"]) if rows else "none"
