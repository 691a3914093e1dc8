"""Snapshots of raw disks by layers beside them: under the real qemu-img and QEMU, cut off in the middle, and forged."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from launcher.cli import main
from launcher.core.storage_rules import refuse_moving, refuse_storage
from launcher.errors import PlanRefused, StorageFailed
from launcher.io.layers import Layer, LayersMalformed, layered, read_layers, write_layers
from launcher.service import external_snapshots
from tests.fakes.disk_world import qemu_io, running_disks
from tests.fakes.vm_files import web_1
from tests.unit.launcher.storage.test_snapshots import ended, img

DISKS = '[[disk]]\npath = "a.img"\n[[disk]]\npath = "b.img"\n'
VM = f'schema = 1\nname = "vm"\nplatform = "none"\nmemory = "128MiB"\n{DISKS}'
SIZE = 1 << 20


@pytest.fixture
def vm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a VM that has ended, with two raw disks."""
    for name in "ab":
        (tmp_path / f"{name}.img").write_bytes(bytes(SIZE))
    return ended(tmp_path, monkeypatch, VM)


def write(folder: Path, value: int) -> None:
    """The VM runs and writes a byte at the start of both disks, through its layers."""
    with running_disks(DISKS, folder) as (qemu, _vm, _said):
        for number in range(2):
            qemu_io(qemu, f"disk{number}", f"write -P {value:#x} 0 4096")
            qemu_io(qemu, f"disk{number}", "flush")


def shown(folder: Path, name: str = "a") -> int:
    """The first byte of a disk as the VM would see it."""
    layers = read_layers(str(folder / f"{name}.img"))
    node = json.dumps(external_snapshots._chain(str(folder / f"{name}.img"), layers))
    img(folder, "convert", "-O", "raw", f"json:{node}", "now")
    return (folder / "now").read_bytes()[0]


def snapshots(capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str]]:
    capsys.readouterr()
    assert main(["snapshot", "list", "vm", "--json"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["snapshots"]
    assert all(row["external"] for row in rows)
    return [(row["disk"], row["name"]) for row in rows]


@pytest.mark.qemu
def test_raw_disks_come_back_to_each_of_their_snapshots(vm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(vm, 0x11)
    assert main(["snapshot", "create", "vm", "one", "--external"]) == 0
    write(vm, 0x22)
    assert (vm / "a.img").read_bytes()[0] == 0x11, "the raw disk rests"
    assert main(["snapshot", "create", "vm", "two", "--external"]) == 0
    assert main(["snapshot", "create", "vm", "two", "--external"]) == 10
    write(vm, 0x33)
    assert snapshots(capsys) == [("disk0", "one"), ("disk0", "two"), ("disk1", "one"), ("disk1", "two")]
    assert main(["snapshot", "revert", "vm", "two"]) == 0
    assert (shown(vm), shown(vm, "b")) == (0x22, 0x22)
    write(vm, 0x44)
    assert main(["snapshot", "delete", "vm", "one"]) == 0
    assert (shown(vm), shown(vm, "b")) == (0x44, 0x44)
    assert (vm / "a.img").read_bytes()[0] == 0x22, "what the first layer held is in the raw disk now"
    assert main(["snapshot", "revert", "vm", "two"]) == 0
    assert shown(vm) == 0x22
    assert main(["snapshot", "revert", "vm", "one"]) == 10
    assert main(["snapshot", "delete", "vm", "two"]) == 0
    assert snapshots(capsys) == []
    assert sorted(path.name for path in vm.glob("[ab].img*")) == ["a.img", "b.img"]
    assert main(["ledger", "vm"]) == 0
    assert "disk disk0, disk1 is back at snapshot two; epoch 2" in capsys.readouterr().out


@pytest.mark.qemu
@pytest.mark.parametrize(
    ("verb", "cut"), [("create", "write_layers"), ("revert", "_drop"), ("delete", "write_layers"), ("delete", "_drop")]
)
def test_a_step_that_is_cut_off_at_the_second_disk_loses_nothing_and_can_be_done_again(
    verb: str, cut: str, vm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        (vm / f"{name}.img").write_bytes(b"\x11" * SIZE)
    assert main(["snapshot", "create", "vm", "one", "--external"]) == 0
    write(vm, 0x22)
    real, calls = getattr(external_snapshots, cut), [0]

    def stumbling(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            raise StorageFailed("power cut")
        return real(*args)

    name = "two" if verb == "create" else "one"
    with monkeypatch.context() as patch:
        patch.setattr(external_snapshots, cut, stumbling)
        assert main(["snapshot", verb, "vm", name, *(["--external"] if verb == "create" else [])]) == 8
    if verb == "revert":
        assert main(["snapshot", "revert", "vm", "one"]) == 0
    expected = 0x11 if verb == "revert" else 0x22
    assert (shown(vm), shown(vm, "b")) == (expected, expected)
    assert main(["snapshot", "delete", "vm", name]) in (0, 10)  # 10: the cut came after all of it
    assert main(["snapshot", "create", "vm", name, "--external"]) == 0
    assert (shown(vm), shown(vm, "b")) == (expected, expected)


@pytest.mark.qemu
def test_a_forged_layer_that_names_a_data_file_is_shown_to_no_qemu_img(
    vm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["snapshot", "create", "vm", "one", "--external"]) == 0
    img(vm, "create", "-q", "-f", "qcow2", "-o", "data_file=secret", "a.img.one.qcow2", str(SIZE))
    for verb in ("delete", "revert"):
        assert main(["snapshot", verb, "vm", "one"]) == 3
        assert "a.img.one.qcow2: keeps its data in a file it names" in capsys.readouterr().err
    assert main(["snapshot", "list", "vm"]) == 0


@pytest.mark.qemu
def test_a_disk_that_another_vm_writes_is_left_alone(vm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running_disks(DISKS, vm):
        assert main(["snapshot", "create", "vm", "one", "--external"]) == 10
    assert "a.img is written by another QEMU" in capsys.readouterr().err
    assert not list(vm.glob("*.layers.json"))


def test_layers_are_asked_for_and_lie_over_disks_at_rest_only(vm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["snapshot", "create", "vm", "one"]) == 3
    assert "--external" in capsys.readouterr().err
    (vm / "vm.toml").write_text(VM + '[[disk]]\npath = "c.qcow2"\nformat = "qcow2"\n')
    assert main(["snapshot", "create", "vm", "one", "--external"]) == 3
    assert "over all disks of a VM or none" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["snapshot", "create", "vm", "one", "--external", "--ram"])


RECORD = {"schema": "cvm.layers/1", "layers": [{"name": "one", "file": "a.img.one.qcow2", "seconds": 1}]}


@pytest.mark.parametrize(
    "record",
    [
        "[]", "{}", '{"schema":"cvm.layers/2","layers":[]}', '{"schema":"cvm.layers/1","layers":[]}',
        json.dumps(RECORD).replace("a.img.one", "/etc/passwd"), json.dumps(RECORD).replace("a.img.one", "../a.img.one"),
        json.dumps(RECORD).replace("a.img.one", "b.img.one"), json.dumps(RECORD).replace('"seconds": 1', '"seconds": true'),
    ],
)  # fmt: skip
def test_a_record_that_names_anything_but_files_of_this_disk_is_refused(record: str, tmp_path: Path) -> None:
    (tmp_path / "a.img.layers.json").write_text(record)
    with pytest.raises(LayersMalformed):
        read_layers(str(tmp_path / "a.img"))


def test_a_record_is_replaced_in_one_step_and_goes_with_the_last_layer(tmp_path: Path) -> None:
    disk = str(tmp_path / "a.img")
    layer = Layer("one", f"{disk}.one.qcow2", 7)
    write_layers(disk, (layer,))
    assert read_layers(disk) == (layer,)
    write_layers(disk, ())
    assert os.listdir(tmp_path) == []


def test_layers_are_for_raw_disks_that_are_written(tmp_path: Path) -> None:
    config = web_1()
    disk = config.disks[0]._replace(path=str(tmp_path / "a.img"))
    write_layers(disk.path, (Layer("one", f"{disk.path}.one.qcow2", 7),))
    with pytest.raises(PlanRefused, match=r"a\.img\.one\.qcow2: is not there"):
        layered(config._replace(disks=(disk,)))
    Path(f"{disk.path}.one.qcow2").touch()
    assert layered(config._replace(disks=(disk,))).disks[0].layers == (f"{disk.path}.one.qcow2",)
    for wrong in (disk._replace(readonly=True), disk._replace(format="qcow2")):
        with pytest.raises(PlanRefused, match="only a raw disk that is written"):
            layered(config._replace(disks=(wrong,)))


def test_what_reads_a_disks_own_bytes_refuses_one_with_layers() -> None:
    config = web_1("tdx")
    disk = config.disks[0]._replace(resource=None, layers=("/disks/web-1.img.one.qcow2",))
    boots = config._replace(disks=(disk,), boot=config.boot._replace(kernel=None, initrd=None, cmdline=""))
    with pytest.raises(PlanRefused, match="in several layers"):
        refuse_storage(boots)
    with pytest.raises(PlanRefused, match="snapshots lie over it"):
        refuse_moving((disk,))
