"""Launchers as processes: interrupted, killed, detached, doubled; and what ``ps`` and ``stop`` make of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from launcher.cli import main
from launcher.io.iproute import NetworkRefused
from tests.unit.launcher.service.conftest import Scene
from tests.unit.launcher.service.test_launching import KERNEL, launch, state_folder, status
from tests.until import PATIENCE, until

UP = [KERNEL, status("booted"), status("attested", status="affirming"), status("running"), ["hang"]]


def start(path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "launcher", "launch", str(path), "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def recorded(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((state_folder(path) / "state.json").read_text())
    except FileNotFoundError:
        return {"state": "none"}
    return found


def rows(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    capsys.readouterr()
    assert main(["ps", "--json"]) == 0
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)["vms"]}


def alive(pid: int) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] not in "ZX"


def children(path: Path) -> list[int]:
    return [recorded(path)[what]["pid"] for what in ("qemu", "emulator") if recorded(path)[what]]


def test_ctrl_c_ends_qemu_and_the_chip_and_is_exit_130(scene: Scene) -> None:
    path = scene(*UP, platform="emulated-snp")
    process = start(path)
    until(lambda: recorded(path)["state"] == "running")
    pids = children(path)
    assert len(pids) == 2
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) in (0, 130)
    assert not any(alive(pid) for pid in pids)
    assert recorded(path)["state"] == "stopped"
    assert not list(state_folder(path).glob("*.sock"))


def test_ctrl_c_before_anything_was_decided_is_an_interruption(scene: Scene) -> None:
    path = scene(KERNEL, ["hang"], platform="emulated-snp")
    process = start(path)
    until(lambda: bool(recorded(path).get("qemu")))
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    assert not any(alive(pid) for pid in children(path))


def test_a_killed_launcher_takes_everything_with_it_and_ps_says_so(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    path = scene(*UP, platform="emulated-snp")
    process = start(path)
    until(lambda: recorded(path)["state"] == "running")
    pids = children(path)
    process.kill()
    process.wait()
    until(lambda: not any(alive(pid) for pid in pids))
    row = rows(capsys)["vm-1"]
    assert row["state"] == "killed"
    assert "cvm stop cleans up" in row["reason"]
    assert main(["stop", "vm-1"]) == 0
    assert rows(capsys)["vm-1"]["state"] == "stopped"
    assert not list(state_folder(path).glob("*.sock"))
    assert main(["stop", "vm-1"]) == 10


def test_an_orphaned_qemu_is_named_refused_and_ended(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    from launcher.io.procid import identity

    path = scene(KERNEL, ["exit", 0])
    launch(path, capsys)
    orphan = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        state = recorded(path) | {"state": "running", "launcher": None, "qemu": identity(orphan.pid)}
        (state_folder(path) / "state.json").write_text(json.dumps(state))
        assert rows(capsys)["vm-1"]["state"] == "orphaned"
        assert launch(path, capsys)[0] == 10
        assert main(["stop", "vm-1"]) == 0
        assert orphan.wait(PATIENCE) == -signal.SIGKILL
    finally:
        orphan.kill()


def test_a_process_that_only_has_the_same_pid_is_left_alone(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    from launcher.io.procid import identity

    path = scene(KERNEL, ["exit", 0])
    launch(path, capsys)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        who = identity(stranger.pid) | {"start": 1}
        state = recorded(path) | {"state": "running", "qemu": who, "launcher": who}
        (state_folder(path) / "state.json").write_text(json.dumps(state))
        assert rows(capsys)["vm-1"]["state"] == "killed"
        assert main(["stop", "vm-1", "--force"]) == 0
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_detach_returns_after_attestation_and_stop_ends_it(
    scene: Scene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_QEMU_POWER", "obey")
    path = scene(*UP, platform="emulated-snp")
    code, result, err = launch(path, capsys, "--detach")
    assert (code, result["outcome"]) == (0, "attested"), err
    assert "attested: the guest says" in err
    assert rows(capsys)["vm-1"]["state"] in ("attested", "running")
    assert launch(path, capsys)[0] == 10, "a second launcher must not start"
    pids = children(path)
    assert main(["stop", "vm-1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "stopped"
    assert not any(alive(pid) for pid in pids)


def test_detach_tells_a_refusal_like_a_launch_does(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    path = scene(KERNEL, status("booted"), status("refused", message="no"), ["exit", 0], platform="emulated-snp")
    code, result, _ = launch(path, capsys, "--detach")
    assert (code, result["outcome"], result["reason"]) == (7, "refused", "no")


def test_detach_tells_qemus_words_when_it_does_not_start(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    path = scene(["refuse-to-start", "qemu-system-x86_64: no such thing"])
    code, result, err = launch(path, capsys, "--detach")
    assert code == 9
    assert "no such thing" in json.dumps(result) + err


def test_detach_passes_on_what_to_do_about_an_error_and_its_exit_status(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    path = scene(["refuse-to-start", "qemu-system-x86_64: Could not set up host forwarding rule"])
    assert main(["launch", str(path), "--detach"]) == 9
    assert "  the host's port is in use: choose another one in forward\n" in capsys.readouterr().err
    path.write_text(path.read_text() + '\n[[net]]\nkind = "tap"\ninterface = "absent0"\n')
    assert main(["launch", str(path), "--detach"]) == NetworkRefused.exit_status
    assert "no such interface" in capsys.readouterr().err


def test_detach_tells_an_error_from_before_there_was_a_launch_on_record(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    path = scene(*UP)
    path.write_text(path.read_text() + "\n[vsock]\ncid = 3\n")
    if Path("/dev/vhost-vsock").exists():
        pytest.skip("a vsock device is here: nothing fails")
    assert main(["launch", str(path), "--detach"]) == NetworkRefused.exit_status
    assert "vsock: /dev/vhost-vsock" in capsys.readouterr().err


def test_detach_and_a_launch_in_front_refuse_a_vm_that_is_up_with_one_status(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    path = scene(*UP)
    assert main(["launch", str(path), "--detach"]) == 0
    try:
        assert [main(["launch", str(path), *more]) for more in ([], ["--detach"])] == [10, 10]
    finally:
        main(["stop", "vm-1", "--force"])
    assert "already at work" in capsys.readouterr().err


def test_stop_by_force_does_not_wait_for_the_guest(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    path = scene(*UP, platform="emulated-snp")
    launch(path, capsys, "--detach")
    before = time.monotonic()
    assert main(["stop", "vm-1", "--force"]) == 0
    assert time.monotonic() - before < 4
    assert main(["stop", "vm-1", "--forget"]) == 0
    assert rows(capsys) == {}


def test_a_full_life_shows_in_the_logs(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    launch(scene(KERNEL, ["serial", "last \x1b[5mwords"], ["sleep", 0.3], ["exit", 0]), capsys)
    assert main(["logs", "vm-1"]) == 0
    assert capsys.readouterr().out == "[    0.000000] Linux version 6.12\nlast words\n"
    assert main(["logs", "vm-1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["schema"] == "cvm.logs/1"
    assert main(["console", "vm-1"]) == 10
    assert "is stopped: no console" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["stop", "logs", "console"])
def test_an_unknown_vm_is_exit_10_and_the_known_ones_are_named(
    verb: str, scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    launch(scene(KERNEL, ["exit", 0]), capsys)
    for name in ("vm-2", "../vm-1", ".emulated-chip"):
        assert main([verb, name]) == 10
        assert "known: vm-1" in capsys.readouterr().err


def test_the_launcher_works_from_any_folder_and_with_a_long_state_path(
    scene: Scene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deep = tmp_path / ("with a space " + "x" * 120)
    monkeypatch.setenv("CVM_STATE", str(deep))
    path = scene(*UP[:-1], ["exit", 0], platform="emulated-snp")
    monkeypatch.chdir(path.parent)
    code, result, err = launch(Path(os.path.relpath(path)), capsys)
    assert (code, result["outcome"]) == (0, "attested"), err
