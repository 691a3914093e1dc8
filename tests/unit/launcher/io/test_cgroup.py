"""Limits written into a made-up cgroup tree: what is there is set, what is not there is told."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from launcher.core.limits import IoLimit, Limits, cpu_list, scope_call, settings
from launcher.io.cgroup import place, release, statement
from launcher.io.pressure import pressure
from policy.vocab import Platform

ALL = Limits(200, 150, "0-1", 1 << 20, 2 << 30, 3 << 30, 50, 300, key_slots=True)
FILES = {item.file: item.value for item in settings(ALL, Platform.SEV_SNP)}


def _tree(root: Path, controllers: str, init: str = "init") -> Path:
    """A kernel makes a cgroup's files with its folder; here they are made before."""
    leaf = root / "sys/fs/cgroup/cvm/web"
    leaf.mkdir(parents=True)
    (root / "proc/1").mkdir(parents=True)
    (root / "proc/1/comm").write_text(f"{init}\n")
    (root / "sys/fs/cgroup/cgroup.controllers").write_text(controllers)
    for folder in (root / "sys/fs/cgroup", leaf.parent):
        (folder / "cgroup.subtree_control").touch()
    (leaf / "cgroup.controllers").write_text(controllers)
    for name in (*FILES, "cgroup.procs"):
        (leaf / name).touch()
    return leaf


def test_every_limit_is_written_as_the_kernel_wants_it(tmp_path: Path) -> None:
    leaf = _tree(tmp_path, "cpuset cpu io memory pids misc")
    placed = place("web", 4711, settings(ALL, Platform.SEV_SNP), tmp_path)
    assert placed.refused == ()
    assert {name: (leaf / name).read_text() for name in FILES} == FILES
    assert FILES["cpu.max"] == "150000 100000" and FILES["misc.max"] == "sev_es 1"
    assert (leaf / "cgroup.procs").read_text() == "4711"


def test_a_controller_that_is_not_delegated_is_told(tmp_path: Path) -> None:
    _tree(tmp_path, "memory pids")
    placed = place("web", 1, settings(ALL, Platform.NONE), tmp_path)
    assert placed.enforced == ("memory.min", "memory.high", "memory.max", "pids.max")
    assert ("cpu.max", "controller cpu is not delegated") in placed.refused
    assert "limits: NOT enforced: cpu.max: controller cpu is not delegated" in statement(placed)


def test_without_cgroup_v2_nothing_is_enforced_and_everything_told(tmp_path: Path) -> None:
    placed = place("web", 1, settings(ALL, Platform.NONE), tmp_path)
    assert placed.enforced == () and len(placed.refused) == len(settings(ALL, Platform.NONE))


def test_no_limits_touch_nothing(tmp_path: Path) -> None:
    assert place("web", 1, settings(Limits(), Platform.SEV_SNP), tmp_path).folder is None


def test_a_cgroup_is_removed_when_empty(tmp_path: Path) -> None:
    leaf = _tree(tmp_path, "memory")
    placed = place("web", 1, settings(Limits(pids=99), Platform.NONE), tmp_path)
    for file in leaf.iterdir():
        file.unlink()  # the kernel's files vanish with the folder
    release(placed)
    assert not leaf.exists()


def test_systemd_is_asked_where_it_is_pid_1_and_its_files_are_believed(tmp_path: Path) -> None:
    leaf = _tree(tmp_path, "memory cpu misc", init="systemd")
    (tmp_path / "proc/7").mkdir()
    (tmp_path / "proc/7/cgroup").write_text("0::/cvm/web\n")
    (leaf / "io.weight").unlink()
    asked: list[Sequence[str]] = []
    placed = place("web", 7, settings(ALL, Platform.SEV_SNP), tmp_path, lambda argv: asked.append(argv) or "")  # type: ignore[func-returns-value]
    words = " ".join(asked[0])
    assert "cvm-web.scope fail 10 PIDs au 1 7" in words and "CPUQuotaPerSecUSec t 1500000" in words
    assert "AllowedCPUs ay 1 3" in words and "MemoryMax t 3221225472" in words
    assert "misc.max" in placed.enforced and placed.refused == (("io.weight", "controller io is not delegated"),)


def test_systemd_that_refuses_is_quoted(tmp_path: Path) -> None:
    _tree(tmp_path, "memory", init="systemd")
    placed = place("web", 7, settings(Limits(pids=99), Platform.NONE), tmp_path, lambda _argv: "Access denied")
    assert placed.refused == (("pids.max", "systemd: Access denied"),)


def test_the_count_of_properties_is_right() -> None:
    words = scope_call("web", 7, settings(ALL, Platform.TDX))
    assert words[-1] == "0" and words[9] == "10"


@pytest.mark.parametrize("text", ["", "a", "3-1", "0-", "-1", "0,,1", "1-2-3", "9000", "０"])
def test_processor_lists_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        cpu_list(text)


def test_pressure_and_waiting_are_read_where_they_are(tmp_path: Path) -> None:
    task = tmp_path / "proc/9/task"
    for thread, numbers in (("9", "300 100 5"), ("10", "100 0 1")):
        (task / thread).mkdir(parents=True)
        (task / thread / "schedstat").write_text(numbers)
    (tmp_path / "proc/9/cgroup").write_text("0::/cvm/web\n")
    group = tmp_path / "sys/fs/cgroup/cvm/web"
    group.mkdir(parents=True)
    (group / "cpu.pressure").write_text("some avg10=12.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=9 total=0\n")
    assert pressure(9, str(tmp_path)) == {"waited": 20.0, "cpu": 12.5, "memory": None, "io": None}
    assert pressure(8, str(tmp_path)) == {"waited": None, "cpu": None, "memory": None, "io": None}


DISK = IoLimit("/dev/loop7", read_bps=1 << 20, write_iops=500, latency=2000)


def _block_device(monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    found = os.stat_result((mode | 0o600, *([0] * 9)), {"st_rdev": os.makedev(7, 7)})
    real = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **options: found if path == DISK.device else real(path, **options))


def test_limits_of_a_block_device_are_written_with_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaf = _tree(tmp_path, "io")
    for name in ("io.max", "io.latency"):
        (leaf / name).touch()
    _block_device(monkeypatch, stat.S_IFBLK)
    placed = place("web", 1, settings(Limits(io=(DISK,)), Platform.NONE), tmp_path)
    assert placed.enforced == ("io.max", "io.latency")
    assert (leaf / "io.max").read_text() == "7:7 rbps=1048576 wiops=500"
    assert (leaf / "io.latency").read_text() == "7:7 target=2000"


def test_what_is_no_block_device_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _tree(tmp_path, "io")
    _block_device(monkeypatch, stat.S_IFREG)
    placed = place("web", 1, settings(Limits(io=(DISK,)), Platform.NONE), tmp_path)
    assert placed.refused[0] == ("io.max", "/dev/loop7 is not a block device")


def test_burst_low_and_nodes_are_written_and_systemd_is_told_what_it_knows() -> None:
    limits = Limits(cpu_max=200, cpu_burst=50, memory_low=1 << 30, io=(DISK,))
    wanted = settings(limits, Platform.NONE, mems="1")
    files = {item.file: item.value for item in wanted}
    assert (files["cpu.max.burst"], files["memory.low"], files["cpuset.mems"]) == ("50000", str(1 << 30), "1")
    words = " ".join(scope_call("web", 1, wanted))
    assert "MemoryLow t 1073741824" in words and "AllowedMemoryNodes ay 1 2" in words
    assert "IOReadBandwidthMax a(st) 1 /dev/loop7 1048576" in words and "IOWriteIOPSMax a(st) 1 /dev/loop7 500" in words
    assert "IODeviceLatencyTargetUSec a(st) 1 /dev/loop7 2000" in words


def test_with_systemd_a_burst_goes_into_the_scopes_own_cgroup(tmp_path: Path) -> None:
    _tree(tmp_path, "cpu", init="systemd")
    scope = tmp_path / "sys/fs/cgroup/cvm-web.scope"
    scope.mkdir()
    (scope / "cgroup.controllers").write_text("cpu")
    for name in ("cpu.max", "cpu.max.burst"):
        (scope / name).touch()
    (tmp_path / "proc/9").mkdir()
    (tmp_path / "proc/9/cgroup").write_text("0::/cvm-web.scope\n")
    placed = place("web", 9, settings(Limits(cpu_max=100, cpu_burst=20), Platform.NONE), tmp_path, lambda _words: "")
    assert placed.enforced == ("cpu.max", "cpu.max.burst") and (scope / "cpu.max.burst").read_text() == "20000"
