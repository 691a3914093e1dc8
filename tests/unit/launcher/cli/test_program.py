"""The program around the verbs: help, versions, usage, errors as text and as JSON, start-up imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher import errors
from launcher.cli import VERBS, launch, main, parser_of, plan
from launcher.cli.failures import report
from launcher.exits import exit_status
from policy.errors import CvmError, MalformedInput

HEAVY = (
    "flask",
    "requests",
    "cryptography",
    "sqlalchemy",
    "subprocess",
    "dataclasses",
    "typing",
    "pathlib",
    "argparse",
)


def test_help_names_every_verb_and_every_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {verb} " in text for verb in VERBS)
    assert all(len(words) <= 62 and words[0].islower() for words in VERBS.values())
    assert "130 interrupted" in text


def test_no_verb_is_a_usage_error_and_a_wrong_one_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["lanch"]) == 2
    assert "did you mean 'launch'?" in capsys.readouterr().err


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("cvm ")


@pytest.mark.parametrize("verb", ["plan", "launch", "ps", "stop", "console", "logs", "doctor"])
def test_every_verb_has_help_with_an_example_and_its_exit_statuses(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([verb, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert f"example: cvm {verb}" in text
    assert "exit status: 0" in text


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.VmConfigInvalid("x", ("$: y",)), 3),
        (errors.PlanRefused("x"), 3),
        (errors.HostNotCapable("x"), 4),
        (MalformedInput("x"), 5),
        (errors.GuestDenied("x"), 7),
        (errors.StateUnusable("x"), 8),
        (errors.GuestFailed("x", code="firmware.refused-kernel"), 9),
        (errors.QemuFailed("x"), 9),
        (errors.LaunchTimeout("x"), 9),
        (errors.EmulatorFailed("x"), 9),
        (errors.NotFound("x"), 10),
        (errors.WrongState("x"), 10),
        (CvmError("x", code="toolchain.missing"), 4),
        (CvmError("x", code="file.unreadable"), 3),
        (CvmError("x", code="usage"), 2),
        (CvmError("x"), 1),
    ],
)
def test_each_kind_of_failure_has_its_exit_status(error: CvmError, status: int) -> None:
    assert exit_status(error) == status


def test_an_error_is_one_json_object_when_json_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(errors.NotFound("no VM", hint="cvm ps"), as_json=True) == 10
    document = json.loads(capsys.readouterr().err)
    assert document == {
        "schema": "cvm.error/1",
        "code": "vm.not-found",
        "message": "no VM",
        "hint": "cvm ps",
        "exit": 10,
    }


def test_every_error_has_its_own_code() -> None:
    found = [item for item in vars(errors).values() if isinstance(item, type) and item.__module__ == errors.__name__]
    codes = [item.code for item in found]
    assert len(set(codes)) == len(codes) > 10


@pytest.mark.parametrize("words", [["--help"], ["ps"], ["ps", "--json"]])
def test_the_quick_verbs_import_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    probe = f"import sys; from launcher.cli import main; main({words!r}); print('IMPORTED', *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", probe],
        env={**os.environ, "CVM_STATE": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    imported = set(done.stdout.rpartition("IMPORTED")[2].split())
    assert not imported & set(HEAVY)


@pytest.mark.parametrize("verb", ["launcher.cli.launch, launcher.service.launching", "launcher.cli.plan"])
def test_what_stands_between_launch_and_qemu_and_what_plan_needs_for_a_plain_vm_is_light(verb: str) -> None:
    vm_file = Path(__file__).parents[3] / "fuzz" / "corpus" / "vm_toml" / "plain.toml"
    code = f"import sys, launcher.service.vm_file, {verb}; launcher.service.vm_file.load_vm({str(vm_file)!r});"
    code += " print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    heavy = {*HEAVY, "socket", "shutil", "tempfile", "launcher.service.supervisor", "launcher.io.qmp"}
    heavy |= {"re", "json", "tomllib", "hashlib", "datetime"}
    heavy |= {"launcher.core.inputs", "launcher.service.id_block"}
    heavy |= {"launcher.core.decisions", "launcher.core.placing", "launcher.core.topology", "launcher.core.storage"}
    heavy |= {f"launcher.config.{name}_parts" for name in ("disk", "net", "hardware", "td", "exec", "init_data")}
    assert not set(done.stdout.split()) & heavy


@pytest.mark.parametrize("words", [["vm.toml"], ["vm.toml", "--quiet", "--json"], ["--detach", "vm.toml"]])
def test_a_plain_launch_is_read_without_a_parser_and_alike(words: list[str]) -> None:
    quick = launch.quick(words)
    slow = vars(parser_of("launch", launch).parse_args(words))
    assert quick is not None
    assert {name: getattr(quick, name) for name in slow} == slow


@pytest.mark.parametrize("words", [["vm.toml"], ["--json", "vm.toml"]])
def test_a_plain_plan_is_read_without_a_parser_and_alike(words: list[str]) -> None:
    quick = plan.quick(words)
    assert quick is not None
    assert vars(quick) == vars(parser_of("plan", plan).parse_args(words))


@pytest.mark.parametrize("words", [[], ["-h"], ["a", "b"], ["a", "--qemu-version", "10.2"], ["a", "--json=1"], [""]])
def test_every_other_plan_is_left_to_the_parser(words: list[str]) -> None:
    assert plan.quick(words) is None


@pytest.mark.parametrize(
    "words", [[], ["-h"], ["a", "b"], ["a", "--timeout", "3"], ["a", "--json=1"], [""], ["--json"]]
)
def test_every_other_launch_is_left_to_the_parser(words: list[str]) -> None:
    assert launch.quick(words) is None


def test_ps_on_a_machine_without_vms_prints_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CVM_STATE", str(tmp_path / "none"))
    assert main(["ps"]) == 0
    assert capsys.readouterr().out.split() == ["NAME", "STATE", "PLATFORM", "VCPUS", "MEMORY", "SINCE", "REASON"]
    assert main(["ps", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"schema": "cvm.ps/1", "vms": []}


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"state": 7, "memory": "x", "launcher": [1]}', "\xff" * 10, "[" * 100000]
)
def test_ps_survives_a_damaged_state_file(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CVM_STATE", str(tmp_path))
    (tmp_path / "vm-1").mkdir()
    (tmp_path / "vm-1" / "state.json").write_text(content)
    assert main(["ps"]) == 0
    assert "vm-1" in capsys.readouterr().out


def test_doctor_reports_every_finding_and_decides_by_platform(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("CVM_CACHE", "/nonexistent")
    assert main(["doctor", "--platform", "emulated-snp"]) == 4
    text = capsys.readouterr().out
    assert "MISSING  qemu" in text
    assert "fix: cvm image toolchain" in text
    assert main(["doctor", "--json"]) == 4
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "cvm.doctor/1"
    assert document["platforms"]["none"] is False
    assert {"id", "state", "seen", "why", "fix", "blocks"} == set(document["findings"][0])


def test_a_bug_is_told_as_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(root: str) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("launcher.service.listing.list_vms", broken)
    assert main(["ps"]) == 1
    assert "this is a bug in cvm" in capsys.readouterr().err


def test_an_interruption_while_an_error_is_told_is_an_interruption(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(error: CvmError, *, as_json: bool) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("launcher.cli.failures.report", interrupted)
    assert main(["launch", "/no/such/file.toml"]) == 130
    assert capsys.readouterr().err == "cvm: interrupted\n"


def test_a_second_interrupt_while_the_program_ends_does_not_change_its_status() -> None:
    code = (
        "import atexit, os, signal, sys, launcher.cli, launcher.cli.ps as ps\n"
        "def run(args): raise KeyboardInterrupt\n"
        "ps.run = run\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "sys.argv = ['cvm', 'ps']\n"
        "sys.exit(launcher.cli.main())"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "cvm: interrupted\n")


def test_a_second_interrupt_while_the_first_is_told_is_the_same_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bool] = []

    def interrupted(*, leaving: bool) -> int:
        told.append(leaving)
        if len(told) == 1:
            raise KeyboardInterrupt
        return 130

    def pressed(args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("launcher.cli._interrupted", interrupted)
    monkeypatch.setattr("launcher.cli.ps.run", pressed)
    assert main(["ps"]) == 130
    assert told == [False, False]
