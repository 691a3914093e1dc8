"""``cvm top``: rates from two looks at a process that works, and signs from a made-up pressure."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from launcher.cli import main
from launcher.cli.top import table
from launcher.io.procid import identity
from launcher.io.statedir import VmDir
from launcher.io.usage import Usage, rates, usage
from launcher.service.topping import signs


def _vm(root: Path) -> None:
    """A VM whose QEMU and launcher are this process."""
    vm = VmDir(str(root), "busy")
    vm.create()
    me = identity(os.getpid())
    vm.write_json("state.json", {"state": "booted", "vcpus": 2, "memory": 1 << 29, "launcher": me, "qemu": me})


def test_a_process_that_works_is_seen_to_work() -> None:
    before = usage(os.getpid())
    started = time.monotonic()
    while time.process_time() and time.monotonic() - started < 0.3:
        pass
    after = usage(os.getpid())
    assert before is not None and after is not None
    found = rates(before, after, time.monotonic() - started)
    assert found.cpu > 5 and found.steal is not None and 0 <= found.steal <= 100 and after.memory > 1 << 20


def test_rates_are_differences_over_time_and_what_may_not_be_read_stays_unknown() -> None:
    before, after = Usage(1.0, 1.0, 0, 1, 0, None), Usage(2.0, 1.25, 0, 1, 4096, 5)
    assert rates(before, after, 2.0) == (50.0, 20.0, 2048.0, None)


def test_a_process_that_is_gone_has_no_usage(tmp_path: Path) -> None:
    assert usage(1, tmp_path) is None


def test_signs_begin_at_ten_percent() -> None:
    assert signs(9.9, {"cpu": 9.9, "memory": None, "io": 0.0}) == []
    assert signs(10.0, {"cpu": 10.0, "memory": 11.0, "io": 12.0}) == [
        "waits for processors", "stalls on processors", "stalls on memory", "stalls on I/O"]  # fmt: skip


def test_one_shot_where_there_is_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CVM_STATE", str(tmp_path))
    _vm(tmp_path)
    assert main(["top", "--json", "--interval", "0.1"]) == 0
    document = json.loads(capsys.readouterr().out)
    (row,) = document["vms"]
    assert (document["schema"], row["name"], row["vcpus"]) == ("cvm.top/1", "busy", 2)
    assert row["cpu_percent"] is not None and row["resident"] > 1 << 20
    assert main(["top", "--interval", "0.1"]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.startswith("NAME") and line.startswith("busy") and "512.0 MiB" in line


def test_a_name_with_escape_codes_cannot_reach_the_terminal() -> None:
    row = {"name": "x\x1b[2J", "state": "booted", "paused": True, "pid": 1, "vcpus": 1, "cpu_percent": None,
           "steal_percent": None, "memory": 1, "resident": 1, "threads": 1, "read_per_second": None,
           "written_per_second": None, "pressure": {"cpu": None, "memory": None, "io": None}, "signs": []}  # fmt: skip
    text = table([row])
    assert "\x1b" not in text and text.splitlines()[1].endswith("paused")
