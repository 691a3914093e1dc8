"""``cvm ps --wide``: a living process's waiting, and nothing for a VM that is down."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from launcher.cli import main
from launcher.io.procid import identity
from launcher.io.statedir import VmDir


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVM_STATE", str(tmp_path))
    me = identity(os.getpid())
    for name, state, who in (("up", "running", me), ("down", "stopped", None)):
        vm = VmDir(str(tmp_path), name)
        vm.create()
        vm.write_json("state.json", {"state": state, "launcher": who, "qemu": who, "memory": 1 << 30})


def test_wide_shows_how_long_a_living_vm_waited(two: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ps", "--wide"]) == 0
    header, down, up = capsys.readouterr().out.splitlines()
    assert header.split()[-8:] == ["PID", "WAITED", "CPU", "MEM", "IO", "DISK", "P99", "REASON"]
    assert down.split()[-6:] == ["-"] * 6
    assert str(os.getpid()) in up.split() and "%" in up


def test_wide_json_has_the_numbers_and_plain_json_has_not(two: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ps", "--wide", "--json"]) == 0
    down, up = json.loads(capsys.readouterr().out)["vms"]
    assert down["pressure"] is None and down["disk_p99_ns"] is None and up["disk_p99_ns"] is None
    assert 0 <= up["pressure"]["waited"] <= 100
    assert main(["ps", "--json"]) == 0
    assert "pressure" not in json.loads(capsys.readouterr().out)["vms"][0]
