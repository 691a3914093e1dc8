"""Requests and their latency of a real QEMU's disks, as the launcher tells them and as ``cvm top --disks`` shows them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from launcher.cli import main
from launcher.cli.top import disk_table
from launcher.core.latency import BOUNDARIES
from launcher.io.procid import identity
from launcher.io.statedir import VmDir
from launcher.service import disk_topping, live
from launcher.service.disk_topping import DiskWatch
from tests.fakes.disk_world import prepared, running_disks
from tests.until import until


@pytest.mark.qemu
def test_disks_on_every_bus_are_told_and_the_firmwares_reads_fall_into_bins(tmp_path: Path) -> None:
    text = ""
    for name, bus in (("a", "virtio"), ("b", "scsi"), ("c", "nvme"), ("d", "sata")):
        (tmp_path / name).write_bytes(bytes(1 << 20))
        text += f'[[disk]]\npath = "{name}"\nserial = "{name}"\nbus = "{bus}"\n'
    made = prepared(text, tmp_path)
    with running_disks(text, tmp_path) as (qemu, _vm, _said):

        def look() -> dict[str, Any]:
            answer = live.COMMANDS["disks"](made, qemu.qmp, {})
            assert isinstance(answer["disks"], list)
            return {row["disk"]: row["read"] for row in answer["disks"]}

        assert sorted(look()) == ["a", "b", "c", "d"]
        until(lambda: sum(look()["d"]["bins"]), "the firmware has read the fourth disk")
        row = look()["d"]
        assert 0 < sum(row["bins"]) <= row["requests"]
        assert row["nanoseconds"] > 0


def answer(requests: int, number: int) -> dict[str, object]:
    bins = [0] * (len(BOUNDARIES) + 1)
    bins[number] = requests
    kind = {"requests": requests, "nanoseconds": requests * 1000, "bins": bins}
    return {"disks": [{"disk": "root", "read": kind, "write": kind, "flush": kind}]}


@pytest.fixture
def busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VmDir:
    """A VM whose QEMU and launcher are this process."""
    monkeypatch.setenv("CVM_STATE", str(tmp_path))
    vm = VmDir(str(tmp_path), "busy")
    vm.create()
    me = identity(os.getpid())
    vm.write_json("state.json", {"state": "booted", "launcher": me, "qemu": me})
    return vm


def test_two_looks_tell_requests_a_second_and_quantiles_of_what_came_between(
    busy: VmDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter((answer(10, 0), answer(30, 6)))
    monkeypatch.setattr(disk_topping, "ask", lambda *_: next(answers))
    watch = DiskWatch()
    assert watch.look(1.0)[0]["read"]["per_second"] is None
    (row,) = watch.look(2.0)
    assert (row["read"]["per_second"], row["read"]["mean_ns"]) == (10.0, 1000)
    assert row["read"]["p99_ns"] == BOUNDARIES[6]
    assert disk_table([row]).splitlines()[1].split()[:4] == ["busy", "root", "10", "≤"]


def test_a_listing_shows_the_slowest_kind_of_request_and_what_is_beyond_all_bins_as_slower_still(
    busy: VmDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, said in ((6, "≤ 1 ms"), (len(BOUNDARIES), "> 5 s")):
        told = answer(30, 2)
        told["disks"] = [*told["disks"], *answer(10, number)["disks"]]  # type: ignore[misc]  # two lists
        monkeypatch.setattr(disk_topping, "ask", lambda *_, seconds, told=told: told)
        assert main(["ps", "--wide"]) == 0
        assert said in capsys.readouterr().out


def test_a_launcher_that_does_not_answer_is_a_row_with_the_reason(
    busy: VmDir, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["top", "--disks", "--json", "--interval", "0.1"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["disks"]
    assert row["disk"] is None and "takes no commands" in row["problem"]
    assert main(["top", "--disks", "--interval", "0.1"]) == 0
    assert "takes no commands" in capsys.readouterr().out
