"""Paused, resumed, restarted, counted: launchers as processes, with a fake QEMU."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from attest.broker.launch_statement import parse_statement
from attest.keys.statement import LAUNCH, Signers, key_id, public_key, unwrap
from launcher.cli import main
from launcher.io.process import fork
from launcher.io.statedir import VmDir, state_root
from launcher.service.epochs import begin_epoch
from tests.unit.launcher.service.conftest import Scene
from tests.unit.launcher.service.test_launching import KERNEL, state_folder, status
from tests.unit.launcher.service.test_lives import UP, recorded, rows, start
from tests.until import until


def lifecycle(path: Path, text: str) -> Path:
    path.write_text(f"{path.read_text()}\n[lifecycle]\n{text}\n")
    return path


def ledger(path: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    capsys.readouterr()
    assert main(["ledger", recorded(path)["name"], "--json"]) == 0
    entries: list[dict[str, object]] = json.loads(capsys.readouterr().out)["entries"]
    return entries


def test_a_vm_is_paused_and_resumed_and_its_own_state_stays(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    path = scene(*UP, platform="emulated-snp")
    launcher = start(path)
    try:
        until(lambda: recorded(path)["state"] == "running")
        name = recorded(path)["name"]
        assert main(["pause", name]) == 0
        assert capsys.readouterr().out == f"{name}: running (paused)\n"
        assert rows(capsys)[name]["paused"] is True
        assert rows(capsys)[name]["state"] == "running"
        assert main(["pause", name]) == 10
        assert "paused already" in capsys.readouterr().err
        assert main(["resume", name]) == 0
        assert rows(capsys)[name]["paused"] is False
        assert main(["resume", name]) == 10
        assert main(["boot-time", name, "--json"]) == 0
    finally:
        launcher.terminate()
        launcher.communicate()
    assert main(["pause", name]) == 10


def test_a_vm_that_fails_is_started_again_and_every_launch_is_in_the_ledger(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    path = scene(KERNEL, ["exit", 1])
    lifecycle(path, 'restart = "on-failure"\nretries = 1\nbackoff_seconds = 1')
    assert main(["launch", str(path), "--quiet"]) == 9
    entries = ledger(path, capsys)
    assert [entry["event"] for entry in entries] == ["launch", "end", "launch", "end"]
    assert [entry["restarts"] for entry in entries[::2]] == [0, 1]
    assert entries[0]["config_sha256"] == entries[2]["config_sha256"]
    assert entries[3]["code"] == "qemu.failed"
    program = entries[0]["qemu"]
    assert isinstance(program, dict)
    assert program["path"].endswith("/toolchain/usr/bin/qemu-system-x86_64")
    assert program["build_id"] == "", "the stand-in has none"
    assert program["size"] == os.stat(program["path"]).st_size
    assert main(["logs", recorded(path)["name"], "--previous"]) == 0
    assert "Linux version" in capsys.readouterr().out


def test_before_qemu_is_started_the_launch_is_on_disk_and_nothing_else_waits_for_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda number: order.append(Path(os.readlink(f"/proc/self/fd/{number}")).name))

    def started(*given: Any, **more: Any) -> int:
        order.append("QEMU")
        return fork(*given, **more)

    monkeypatch.setattr("launcher.io.isolation.fork", started)
    assert main(["launch", str(scene(KERNEL, ["exit", 0])), "--quiet"]) == 0
    assert order[: order.index("QEMU")] == ["ledger.jsonl"]
    assert any(name.startswith(".vm.json.") for name in order)


def test_a_guest_that_the_service_refused_is_not_started_again(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    path = scene(KERNEL, status("booted"), status("refused", message="no"), ["exit", 0], platform="emulated-snp")
    lifecycle(path, 'restart = "always"\nbackoff_seconds = 1')
    assert main(["launch", str(path), "--quiet"]) == 7
    assert [entry["event"] for entry in ledger(path, capsys)] == ["launch", "end"]


def test_a_vm_that_waits_for_its_restart_can_be_stopped(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    path = lifecycle(scene(KERNEL, ["exit", 1]), 'restart = "always"\nbackoff_seconds = 200')
    launcher = start(path)
    until(lambda: recorded(path)["state"] == "restarting")
    assert main(["stop", recorded(path)["name"]]) == 0
    launcher.communicate()
    assert recorded(path)["state"] == "failed"
    assert [entry["event"] for entry in ledger(path, capsys)] == ["launch", "end"]


def test_a_qemu_that_does_not_start_is_in_the_ledger_too(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    path = scene(["refuse-to-start", "no such machine"])
    assert main(["launch", str(path), "--quiet"]) == 9
    assert [entry["event"] for entry in ledger(path, capsys)] == ["launch", "failed-to-start"]


def test_a_lifecycle_that_contradicts_itself_is_refused(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    path = lifecycle(scene(["hang"]), 'restart = "often"\nretries = -1\nbackoff_seconds = 9\nbackoff_max_seconds = 3')
    assert main(["plan", str(path)]) == 3
    said = capsys.readouterr().err
    assert "$.lifecycle.restart" in said
    assert "$.lifecycle.retries" in said
    assert "$.lifecycle.backoff_max_seconds" in said


def test_a_measured_launch_is_signed_by_the_hosts_key_as_the_service_reads_it(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ledger", "--host-key"]) == 0
    pem = capsys.readouterr().out.encode()
    assert main(["ledger", "--host-key"]) == 0
    assert capsys.readouterr().out.encode() == pem, "the key is made once"
    path = scene(*UP, platform="emulated-snp")
    vm = VmDir(str(state_folder(path).parent), path.stem)
    vm.create()
    begin_epoch(vm, "before", "disk root is")
    launcher = start(path)
    try:
        until(lambda: recorded(path)["state"] == "running")
        name = recorded(path)["name"]
        assert main(["ledger", name, "--signed"]) == 0
    finally:
        launcher.terminate()
        launcher.communicate()
    signed = unwrap(capsys.readouterr().out.encode(), LAUNCH)
    key = public_key(pem, "host")
    assert Signers(((key_id(key), key),)).check(signed, LAUNCH, "launch") == (key_id(key),)
    statement = parse_statement(signed.data).members
    entry = next(entry for entry in ledger(path, capsys) if entry["event"] == "launch")
    assert (statement["vm"], statement["measurement"]) == (name, entry["expected_measurement"])
    assert statement["config_sha256"] == entry["config_sha256"]
    assert statement["epoch"] == 1


def test_without_a_launch_key_nothing_is_signed_and_the_verb_says_so(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    path = scene(["refuse-to-start", "no such machine"], platform="emulated-snp")
    assert main(["launch", str(path), "--quiet"]) == 9
    capsys.readouterr()
    assert main(["ledger", recorded(path)["name"], "--signed"]) == 10
    assert "cvm ledger --host-key" in capsys.readouterr().err
    assert main(["ledger"]) == 10


def test_a_launch_key_that_others_can_read_or_that_is_damaged_stops_the_launch(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ledger", "--host-key"]) == 0
    key = Path(state_root()) / ".launch-key.pem"
    key.chmod(0o644)
    assert main(["launch", str(scene(*UP, platform="emulated-snp"))]) == 8
    assert "others may read it" in capsys.readouterr().err
    key.chmod(0o600)
    key.write_text("nonsense")
    assert main(["ledger", "--host-key"]) == 8


def test_what_is_written_down_is_the_command_line_that_ran_although_the_vsock_address_moved(
    scene: Scene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def next_one(wanted: int, *, exactly: bool) -> tuple[int, int]:
        assert not exactly
        return os.open(os.devnull, os.O_RDWR), wanted + 1

    monkeypatch.setattr("launcher.io.vsock.open_vsock", next_one)
    path = scene(KERNEL, ["argv"], ["exit", 0])
    path.write_text(f"{path.read_text()}\n[vsock]\n")
    assert main(["plan", str(path), "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)["argv"]
    assert main(["launch", str(path)]) == 0
    assert "is taken" in capsys.readouterr().err
    ran = json.loads((state_folder(path) / "qemu.log").read_text().splitlines()[0])
    written = json.loads((state_folder(path) / "vm.json").read_text())["argv"]
    assert planned != written
    assert written[-len(ran) :] == ran
    digest = hashlib.sha256(b"".join(word.encode() + b"\0" for word in written)).hexdigest()
    assert ledger(path, capsys)[0]["argv_sha256"] == digest
