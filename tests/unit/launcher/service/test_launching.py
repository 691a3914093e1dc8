"""``cvm launch`` with a QEMU that plays scenes: outcomes, exit statuses, what is written down, what is left behind."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from launcher.cli import main
from tests.fakes.vm_files import WEB_1
from tests.unit.launcher.service.conftest import Scene

KERNEL = ["serial", "\x1b[2J[    0.000000] Linux version 6.12\n"]


def status(event: str, **detail: Any) -> list[Any]:
    return ["status", {"v": 1, "event": event, "time": 1.5, "detail": detail}]


GOOD = [KERNEL, status("booted", kernel="6.12"), status("evidence", source="the emulated chip", measurement="ab" * 48),
        status("attested", status="affirming"), status("unlocked", disk="root"),
        status("payload-output", text="hello from \x1b[1minside\n"), status("running"), status("stopped"),
        ["event", "SHUTDOWN", {"guest": True, "reason": "guest-shutdown"}], ["exit", 0]]  # fmt: skip


def launch(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, Any], str]:
    code = main(["launch", str(path), "--json", *options])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else {}, err


def state_folder(path: Path) -> Path:
    return path.parents[1] / "state" / path.stem


def test_a_guest_that_attests_and_ends_is_a_success(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    code, result, err = launch(scene(*GOOD, platform="emulated-snp"), capsys)
    assert code == 0, err
    assert (result["schema"], result["state"], result["outcome"]) == ("cvm.launch/1", "stopped", "attested")
    assert result["emulated"] is True
    assert result["payload_output"] == "hello from \\x1b[1minside\n"
    assert set(result["seconds"]) == {
        "qemu_ready",
        "kernel",
        "booted",
        "evidence",
        "attested",
        "unlocked",
        "payload_output",
        "running",
        "stopped",
    }
    assert result["launch_digest"] == result["planned_digest"]
    assert len(result["emulated_root"]) == 64
    for words in (
        "launch digest",
        "the kernel starts",
        "attested",
        "| hello from \\x1b[1minside",
        "the guest powers off",
    ):
        assert words in err
    assert "\x1b" not in err


def test_the_state_folder_is_private_and_tells_the_whole_story(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    path = scene(*GOOD, platform="emulated-snp")
    launch(path, capsys)
    folder = state_folder(path)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(item.name for item in folder.iterdir()) == [
        "emulator.log", "events.jsonl", "hashes.bin", "isolation.json", "ledger.jsonl", "lock", "qemu.log", "result.json", "serial.log", "serial.log.times", "state.json", "status.jsonl", "vm.json",
    ]  # fmt: skip
    assert all(stat.S_IMODE(item.stat().st_mode) == 0o600 for item in folder.iterdir())
    lines = [json.loads(line)["event"] for line in (folder / "status.jsonl").read_text().splitlines()]
    assert lines[:4] == ["booted", "evidence", "attested", "unlocked"]
    assert json.loads((folder / "vm.json").read_text())["schema"] == "cvm.vm/1"


def test_a_refused_guest_is_exit_7_with_every_reason(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    path = scene(
        KERNEL, status("booted"), status("refused", code="x", message="the service refused", reasons=["measurement: no"]),
        ["sleep", 0.2], ["exit", 0], platform="emulated-snp",
    )  # fmt: skip
    code, result, _ = launch(path, capsys)
    assert (code, result["state"], result["outcome"]) == (7, "refused", "refused")
    assert result["reason"] == "the service refused\n  - measurement: no"
    assert main(["launch", str(path)]) == 7
    assert "cvm: vm-1: the service refused\n  - measurement: no" in capsys.readouterr().err


def test_a_guest_that_failed_is_exit_9_and_stopped_if_it_stays(
    scene: Scene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.service.supervisor.GUEST_GRACE", 0.3)
    path = scene(KERNEL, status("booted"), status("failed", message="no disk"), ["hang"], platform="emulated-snp")
    code, result, _ = launch(path, capsys)
    assert (code, result["code"], result["reason"]) == (9, "guest.failed", "no disk")


def test_a_firmware_in_its_dead_loop_is_recognised_and_explained(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    good = scene(*GOOD, platform="emulated-snp")
    launch(good, capsys)
    table = good.parent / "approved.bin"
    table.write_bytes((state_folder(good) / "hashes.bin").read_bytes())
    path = scene(["spin"], platform="emulated-snp", cmdline="console=ttyS0 evil")
    code, result, err = launch(path, capsys, "--hash-table", str(table))
    assert (code, result["code"]) == (9, "firmware.refused-kernel")
    assert result["reason"].startswith("the firmware refused to start the kernel: command line: measured ")
    assert "initrd" not in result["reason"]
    assert result["launch_digest"] != result["planned_digest"]
    assert err.count("TESTING") == 2
    assert result["seconds"]["firmware_refused"] < 10


def test_a_hash_table_that_is_none_is_refused(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    path = scene(platform="emulated-snp")
    (path.parent / "t").write_bytes(b"x" * 176)
    assert launch(path, capsys, "--hash-table", str(path.parent / "t"))[0] == 5


def test_qemu_that_does_not_start_is_exit_9_with_its_words(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    path = scene(["refuse-to-start", "qemu-system-x86_64: warning: old\nqemu-system-x86_64: -cpu: no such model"])
    code, _, err = launch(path, capsys)
    assert code == 9
    assert json.loads(err.splitlines()[-1])["message"] == "QEMU ended with status 1: -cpu: no such model"
    assert json.loads((state_folder(path) / "state.json").read_text())["state"] == "failed"


def test_qemu_that_dies_later_is_exit_9_with_its_words(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    path = scene(KERNEL, ["say", "qemu-system-x86_64: KVM internal error"], ["exit", 3])
    code, result, _ = launch(path, capsys)
    assert (code, result["code"]) == (9, "qemu.failed")
    assert result["reason"] == "QEMU ended with status 3: KVM internal error"


def test_silence_runs_out_of_time(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    path = scene(["hang"], platform="emulated-snp")
    code, result, _ = launch(path, capsys, "--timeout", "0.5")
    assert (code, result["code"]) == (9, "launch.timeout")


def test_an_ordinary_vm_needs_no_agent(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    code, result, _ = launch(scene(KERNEL, ["sleep", 0.3], ["exit", 0]), capsys)
    assert (code, result["outcome"], result["launch_digest"]) == (0, "ran", None)


def test_an_ordinary_vm_that_stays_silent_is_taken_to_run_and_goes_on_until_it_ends(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    code, result, said = launch(scene(["sleep", 1.0], ["exit", 0]), capsys, "--timeout", "0.3")
    assert (code, result["outcome"], result["state"]) == (0, "ran", "stopped")
    assert 0.3 <= result["seconds"]["booted"] < result["seconds"]["stopped"]
    assert "taken to run" in said


def test_hostile_status_lines_are_dropped_and_the_rest_is_heard(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    path = scene(
        ["raw-status", "not json\n" + "x" * 20000 + "\n" + '{"v":1}\n\n'], *GOOD, ["exit", 0], platform="emulated-snp"
    )
    code, result, _ = launch(path, capsys)
    assert (code, result["outcome"]) == (0, "attested")


def test_a_console_without_newlines_does_not_grow_the_launcher(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, _ = launch(scene(["flood", 3_000_000], KERNEL, ["sleep", 0.3], ["exit", 0]), capsys)
    assert code == 0


def test_a_host_without_the_hardware_is_exit_4_with_what_is_missing(
    scene: Scene, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = scene(platform="sev-snp")
    text = path.read_text()
    path.write_text(text)
    code = main(["launch", str(path)])
    err = capsys.readouterr().err
    if code != 4:
        pytest.skip("this host can run SEV-SNP")
    assert "snp.kvm" in err
    assert "fix:" in err
    assert not state_folder(path).exists()


def test_a_wrong_file_is_exit_3_with_every_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "web-1.toml"
    path.write_text(WEB_1.format(platform="sev-snpp").replace("model", "modle"))
    assert main(["launch", str(path)]) == 3
    err = capsys.readouterr().err
    assert 'web-1.toml: $.cpu.modle: unknown key (did you mean "model"?)' in err
    assert "$.platform" in err


def test_a_missing_file_is_exit_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch", "/nowhere/x.toml"]) == 3
    assert "VM file: /nowhere/x.toml: No such file" in capsys.readouterr().err


def test_a_missing_kernel_is_named_before_anything_starts(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    path = scene(platform="emulated-snp")
    (path.parent / "initrd").unlink()
    assert main(["launch", str(path)]) == 3
    assert "initrd" in capsys.readouterr().err
    assert not state_folder(path).exists()


def test_a_missing_disk_is_named_before_anything_starts(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    path = scene()
    path.write_text(path.read_text() + '[[disk]]\npath = "gone.img"\n')
    assert main(["launch", str(path)]) == 3
    assert "gone.img: no such file" in capsys.readouterr().err
    assert not state_folder(path).exists()


def test_the_testing_option_is_refused_where_it_would_do_nothing(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["launch", str(scene()), "--hash-table", "/dev/null"]) == 3
    assert 'only platform "emulated-snp"' in capsys.readouterr().err


def test_warnings_of_the_plan_are_said_at_launch(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    path = scene(*GOOD, platform="emulated-snp")
    path.write_text(path.read_text() + "[snp]\ndebug = true\n")
    _, _, err = launch(path, capsys)
    assert "WARNING: snp.debug = true: the host can decrypt this guest's memory" in err


@pytest.mark.parametrize("name", ["kernel", "initrd"])
def test_a_boot_file_that_is_missing_is_named_before_anything_is_started(
    scene: Scene, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = scene()
    (path.parent / name).unlink()
    assert main(["launch", str(path)]) == 3
    assert f"cvm: {name}: {path.parent / name}: no such file [boot.missing]" in capsys.readouterr().err
    assert not state_folder(path).exists()


def test_an_ordinary_vm_that_cannot_run_here_is_not_told_to_emulate_a_chip(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    path = scene()
    path.write_text(path.read_text() + '\n[[passthrough]]\naddress = "0000:ff:1f.7"\n')
    assert main(["launch", str(path)]) == 4
    err = capsys.readouterr().err
    assert "this host cannot run vm-1 (none):" in err
    assert "emulated" not in err
