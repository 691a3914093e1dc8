"""``cvm snapshot`` on real qcow2 images: of a stopped VM by qemu-img, of a running one by the monitor."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from launcher.cli import main
from launcher.errors import NotFound, PlanRefused, WrongState
from launcher.io.ledger import read_ledger
from launcher.io.qmp import Qmp
from launcher.service import live
from launcher.service.live import LiveMalformed
from launcher.service.ram_snapshots import refuse_ended, refuse_memory
from launcher.service.snapshots import _thoughts, snapshot_disks
from policy.vocab import Platform
from tests.fakes.disk_world import prepared, qemu_io, real_qemu, running_disks
from tests.fakes.vm_files import web_1
from tests.until import until

VM = 'schema = 1\nname = "vm"\nplatform = "none"\nmemory = "128MiB"\n[[disk]]\npath = "a.qcow2"\nformat = "{}"\n'


def img(folder: Path, *words: str) -> None:
    facts = real_qemu("qemu-img")
    subprocess.run(
        [*facts.program("qemu-img"), *words], cwd=folder, env=dict(facts.env), check=True, capture_output=True
    )


def ended(folder: Path, monkeypatch: pytest.MonkeyPatch, config: str) -> Path:
    """The folder, with the VM file ``config`` in it and the state of that VM, which has ended."""
    (folder / "vm.toml").write_text(config)
    monkeypatch.setenv("CVM_STATE", str(folder / "state"))
    (folder / "state/vm").mkdir(parents=True, mode=0o700)
    state = {"schema": "cvm.state/1", "name": "vm", "state": "stopped", "config": str(folder / "vm.toml"),
             "launcher": None, "qemu": None, "emulator": None}  # fmt: skip
    (folder / "state/vm/state.json").write_text(json.dumps(state))
    return folder


@pytest.fixture
def vm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a VM that has ended, with one disk of 1 MiB."""
    img(tmp_path, "create", "-q", "-f", "qcow2", "a.qcow2", "1M")
    return ended(tmp_path, monkeypatch, VM.format("qcow2"))


@pytest.mark.qemu
def test_a_stopped_vms_disk_comes_back_to_its_snapshot(vm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (vm / "old").write_bytes(b"old" * 341 + bytes(1))
    img(vm, "dd", "-f", "raw", "-O", "qcow2", "if=old", "of=a.qcow2")
    assert main(["snapshot", "create", "vm", "one"]) == 0
    assert main(["snapshot", "create", "vm", "one"]) == 10
    capsys.readouterr()
    assert main(["snapshot", "list", "vm", "--json"]) == 0
    assert [(item["disk"], item["name"]) for item in json.loads(capsys.readouterr().out)["snapshots"]] == [
        ("disk0", "one")
    ]
    assert main(["snapshot", "revert", "vm", "two"]) == 10
    assert main(["snapshot", "revert", "vm", "one"]) == 0
    img(vm, "convert", "-O", "raw", "a.qcow2", "now")
    assert (vm / "now").read_bytes()[:1023] == b"old" * 341
    assert main(["ledger", "vm"]) == 0
    assert "disk disk0 is back at snapshot one; epoch 1" in capsys.readouterr().out
    assert main(["snapshot", "delete", "vm", "one"]) == 0
    capsys.readouterr()
    assert main(["snapshot", "list", "vm"]) == 0
    assert capsys.readouterr().out == "no snapshots\n"


@pytest.mark.qemu
def test_a_running_qemu_makes_and_forgets_snapshots_below_its_limits(tmp_path: Path) -> None:
    img(tmp_path, "create", "-q", "-f", "qcow2", "a.qcow2", "1M")
    text = '[[disk]]\npath = "a.qcow2"\nformat = "qcow2"\n[disk.throttle]\niops_total = 500\n'
    made = prepared(text, tmp_path)
    with running_disks(text, tmp_path) as (qemu, _vm, _said):
        qemu_io(qemu, "disk0", "write -P 0x11 0 512")
        answer = live.snapshot(made, qemu.qmp, {"do": "create", "name": "one"})
        assert [item[:2] for item in answer["snapshots"]] == [["disk0", "one"]]  # type: ignore[attr-defined]
        qemu_io(qemu, "disk0", "write -P 0x22 0 512")
        with pytest.raises(LiveMalformed):
            live.snapshot(made, qemu.qmp, {"do": "revert", "name": "one"})
    img(tmp_path, "convert", "-l", "snapshot.name=one", "-f", "qcow2", "-O", "raw", "a.qcow2", "then")
    img(tmp_path, "convert", "-f", "qcow2", "-O", "raw", "a.qcow2", "now")
    assert ((tmp_path / "then").read_bytes()[0], (tmp_path / "now").read_bytes()[0]) == (0x11, 0x22)
    with running_disks(text, tmp_path) as (qemu, _vm, _said):
        assert live.snapshot(made, qemu.qmp, {"do": "delete", "name": "one"})["snapshots"] == []


def test_what_keeps_no_snapshots_is_refused_with_what_helps(vm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (vm / "vm.toml").write_text(VM.format("raw"))
    assert main(["snapshot", "create", "vm", "one"]) == 3
    assert "is raw: only a qcow2 image" in capsys.readouterr().err
    nbd = VM.partition("path")[0] + '[disk.nbd]\nserver = "tcp:h:1"\n'
    (vm / "vm.toml").write_text(nbd)
    assert main(["snapshot", "list", "vm"]) == 3
    assert "make it where the disk lives" in capsys.readouterr().err


def test_a_name_that_is_an_option_or_a_path_is_a_usage_error(vm: Path) -> None:
    for name in ("-x", "../x", "", "X", "a" * 65):
        assert main(["snapshot", "create", "vm", "--", name]) == 2, (vm, name)


@pytest.mark.qemu
def test_a_running_ordinary_vm_goes_back_to_memory_and_disks_of_one_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    img(tmp_path, "create", "-q", "-f", "qcow2", "a.qcow2", "1M")
    text = '[[disk]]\npath = "a.qcow2"\nformat = "qcow2"\n[disk.throttle]\niops_total = 500\n'
    made = prepared(text, tmp_path)
    monkeypatch.setenv("CVM_STATE", str(tmp_path / "state"))
    with running_disks(text, tmp_path) as (qemu, vm, _said):
        qmp = qemu.qmp

        def do(what: str, name: str, *, ram: bool = True) -> list[list[object]]:
            answer = live.snapshot(made, qmp, {"do": what, "name": name, "ram": ram})
            assert isinstance(answer["snapshots"], list)
            return answer["snapshots"]

        qemu_io(qemu, "disk0", "write -P 0x11 0 512")
        then = ticks(qmp)
        (kept,) = do("create", "one")
        assert kept[:2] == ["disk0", "one"] and int(str(kept[3])) > 0
        with pytest.raises(WrongState, match="there is one of that name"):
            do("create", "one")
        qemu_io(qemu, "disk0", "write -P 0x22 0 512")
        qmp.execute("cont")
        assert ticks(qmp, then) > then
        do("create", "disks", ram=False)
        with pytest.raises(WrongState, match="snapshot disks has no memory"):
            do("revert", "disks")
        with pytest.raises(NotFound, match="no snapshot 'two'"):
            do("revert", "two")
        do("revert", "one")
        assert ticks(qmp) == then
        qmp.execute("cont")
        do("revert", "one")
        assert qmp.execute("query-status")["status"] == "running"
        reasons = [entry["reason"] for entry in read_ledger(vm).entries]
    assert reasons == [f"memory and disks are back at snapshot one; epoch {number}" for number in (1, 2)]
    img(tmp_path, "convert", "-f", "qcow2", "-O", "raw", "a.qcow2", "now")
    assert (tmp_path / "now").read_bytes()[0] == 0x11


def ticks(qmp: Qmp, after: int = 0) -> int:
    """The firmware's clock ticks (BIOS data area, 0x46c) once there are more than ``after``; the VM stands still then."""
    found = after

    def ticked() -> bool:
        nonlocal found
        qmp.execute("stop")
        found = int(qmp.hmp("xp /1wx 0x46c").split()[-1], 16)
        if found <= after:
            qmp.execute("cont")
        return found > after

    until(ticked, "the clock ticks")
    return found


def test_memory_is_refused_with_the_reason_of_the_platform() -> None:
    with pytest.raises(PlanRefused, match="encrypted under a key of this one launch"):
        refuse_memory(web_1().platform)
    refuse_memory(Platform.NONE)


def test_memory_of_a_vm_that_is_not_up_is_neither_kept_nor_brought_back(vm: Path) -> None:
    with pytest.raises(WrongState, match="goes back into one"):
        refuse_ended("vm", "stopped")
    for verb in ("create", "revert"):
        assert main(["snapshot", verb, "vm", "one", "--ram"]) == 10


def test_who_reverts_an_encrypted_disk_is_told_what_that_means() -> None:
    assert "cannot tell" in _thoughts(web_1(), "revert")[0]
    assert "bring the disk back" in _thoughts(web_1(), "create")[0]
    assert _thoughts(web_1(), "list") == []
    with pytest.raises(PlanRefused, match="can be written"):
        snapshot_disks(web_1()._replace(disks=()))
