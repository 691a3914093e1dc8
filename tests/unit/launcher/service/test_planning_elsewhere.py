"""``cvm plan --qemu-version``: a plan for a QEMU that is not on this machine, and for a machine without any."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from launcher.cli import main
from launcher.io.toolchain import ToolchainMissing
from launcher.service import planning
from tests.fakes.fake_toolchain import make_cache, write_vm


def _planned(capsys: pytest.CaptureFixture[str], path: Path, series: str) -> dict[str, object]:
    assert main(["plan", "--qemu-version", series, "--json", str(path)]) == 0
    document: dict[str, object] = json.loads(capsys.readouterr().out)
    return document


def _without_qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise ToolchainMissing("no QEMU")

    monkeypatch.setattr(planning, "find_toolchain", none)


@pytest.mark.parametrize("series", ["9.1", "10.0", "10.1", "10.2", "11.1"])
def test_a_machine_without_qemu_plans_for_any_that_is_shipped(
    series: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _without_qemu(monkeypatch)
    document = _planned(capsys, write_vm(tmp_path, tmp_path / "chip"), series)
    argv = document["argv"]
    assert isinstance(argv, list)
    assert argv[0] == "qemu-system-x86_64"
    assert argv[argv.index("-machine") + 1].startswith(f"pc-q35-{series},")
    assert ("-mon" in argv) is (series != "11.1")
    qemu = document["qemu"]
    assert isinstance(qemu, dict)
    assert (qemu["version"], qemu["found"]) == (series, "shipped")
    assert main(["plan", str(write_vm(tmp_path, tmp_path / "chip"))]) == 4


def test_the_firmware_beside_this_machines_qemu_is_measured_for_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CVM_CACHE", str(make_cache(tmp_path)))
    path = write_vm(tmp_path, tmp_path / "chip", platform="emulated-snp")
    assert main(["plan", "--json", str(path)]) == 0
    here = json.loads(capsys.readouterr().out)
    elsewhere = _planned(capsys, path, "10.2")
    assert elsewhere["launch_digest"] == here["launch_digest"]
    assert here["qemu"]["found"] in ("cache", "system")
    assert elsewhere["argv"] != here["argv"]


def test_a_version_that_is_not_shipped_is_a_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["plan", "--qemu-version", "10.3", str(tmp_path / "x")])
    assert caught.value.code == 2
    assert "choose from '9.1', '10.0'" in capsys.readouterr().err


def test_the_doctor_says_why_a_qemu_that_is_there_cannot_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = make_cache(tmp_path)
    monkeypatch.setenv("CVM_CACHE", str(cache))
    monkeypatch.setenv("PATH", "/nonexistent")
    assert main(["doctor", "--json"]) == 4
    before = {item["id"]: item for item in json.loads(capsys.readouterr().out)["findings"]}
    assert before["qemu.features"]["state"] == "ok"
    shutil.rmtree(cache / "qemu")
    loader = cache / "toolchain/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    loader.write_text("#!/bin/sh\necho 'no such library' >&2\nexit 1\n")
    assert main(["doctor", "--json"]) == 4
    document = json.loads(capsys.readouterr().out)
    found = {item["id"]: item for item in document["findings"]}
    assert "ended when asked what it can do: no such library" in found["qemu.features"]["seen"]
    assert found["qemu"]["state"] == "missing"
    assert not any(document["platforms"].values())
