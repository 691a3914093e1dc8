"""What follows when a guest reboots: the end, a new QEMU, or a new launch inside the same one. With a fake QEMU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.cli import main
from tests.unit.launcher.service.conftest import Scene
from tests.unit.launcher.service.test_launching import KERNEL, state_folder
from tests.unit.launcher.service.test_lifecycle import ledger, lifecycle
from tests.unit.launcher.service.test_lives import alive, recorded, start
from tests.until import PATIENCE, until

REBOOT = ["event", "SHUTDOWN", {"guest": True, "reason": "guest-reset"}]
POWER_OFF = ["event", "SHUTDOWN", {"guest": True, "reason": "guest-shutdown"}]


def launches(path: Path, capsys: pytest.CaptureFixture[str]) -> list[tuple[object, object]]:
    return [(entry["event"], entry.get("in_place")) for entry in ledger(path, capsys)]


def test_a_reboot_ends_the_vm_unless_its_owner_said_otherwise(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    path = scene(KERNEL, REBOOT, ["exit", 0])
    assert main(["launch", str(path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["reason"] == "the guest asked for a reboot, which is a launch of its own: each is counted"
    assert launches(path, capsys) == [("launch", None), ("end", None)]


def test_a_relaunch_is_a_new_qemu_with_a_ledger_line_and_the_console_before_it(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lifecycle(scene(KERNEL, REBOOT, ["exit", 0]), 'on_reboot = "relaunch"\nretries = 1')
    assert main(["launch", str(path), "--json"]) == 0
    first = capsys.readouterr()
    assert launches(path, capsys) == [("launch", None), ("end", None)] * 2, first
    assert [entry["restarts"] for entry in ledger(path, capsys)[::2]] == [0, 1]
    assert main(["logs", recorded(path)["name"], "--previous"]) == 0
    assert "Linux version" in capsys.readouterr().out


def test_a_reboot_in_place_is_reset_only_after_its_ledger_line_and_forgets_the_guest_before(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = (KERNEL, REBOOT, ["await", "system_reset"], ["await", "cont"], ["sleep", 0.4], KERNEL, POWER_OFF, ["hang"])
    path = lifecycle(scene(*scenes), 'on_reboot = "in-place"')
    launcher = start(path)
    try:
        until(lambda: recorded(path)["state"] == "restarting")
        pid = recorded(path)["qemu"]["pid"]
        until(lambda: recorded(path)["state"] == "starting")
        assert recorded(path)["qemu"]["pid"] == pid
        assert alive(pid)
        assert launches(path, capsys) == [("launch", None), ("end", None), ("launch", True)]
    finally:
        out, _ = launcher.communicate(timeout=PATIENCE)
    result = json.loads(out)
    assert (result["outcome"], result["reason"]) == ("ran", "the guest powered off")
    assert launches(path, capsys)[-1] == ("end", None)
    assert ledger(path, capsys)[-2]["restarts"] == 1
    assert (state_folder(path) / "serial.log").read_text().count("Linux version") == 2


def test_a_guest_that_reboots_in_place_too_often_stays_down(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    path = lifecycle(
        scene(KERNEL, REBOOT, ["await", "cont"], KERNEL, REBOOT, ["hang"]), 'on_reboot = "in-place"\nretries = 1'
    )
    assert main(["launch", str(path), "--quiet"]) == 0
    assert launches(path, capsys) == [("launch", None), ("end", None), ("launch", True), ("end", None)]


def test_a_vm_that_waits_for_its_reboot_in_place_can_be_stopped(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lifecycle(scene(KERNEL, REBOOT, ["hang"]), 'on_reboot = "in-place"\nbackoff_seconds = 200')
    launcher = start(path)
    until(lambda: recorded(path)["state"] == "restarting")
    pid, name = recorded(path)["qemu"]["pid"], recorded(path)["name"]
    assert main(["pause", name]) == 10
    assert "it is not up" in capsys.readouterr().err
    assert main(["stop", name]) == 0
    launcher.communicate()
    assert not alive(pid)
    assert launches(path, capsys) == [("launch", None), ("end", None)]


def test_an_emulated_chip_cannot_launch_its_guest_again_in_place(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lifecycle(scene(["hang"], platform="emulated-snp"), 'on_reboot = "in-place"')
    assert main(["plan", str(path)]) != 0
    assert "lifecycle.in-place-emulated" in capsys.readouterr().err
