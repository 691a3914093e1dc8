"""A real QEMU with shaped processors, devices and room to grow: its threads are where they should be, its memory moves."""

from __future__ import annotations

import ctypes
import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from launcher.core.argv import qemu_options
from launcher.core.argv.words import json_value
from launcher.core.confinement import confinement
from launcher.core.confinement_settings import IsolationSettings
from launcher.core.hardware import VIRTIO_MEM, Devices, NumaNode, Placement, Ram
from launcher.core.spec import VmSpec
from launcher.errors import QemuFailed, WrongState
from launcher.io.isolation import jail_for
from launcher.io.pinning import pin, threads_of
from launcher.io.qemu import Qemu, start_qemu
from launcher.io.statedir import VmDir
from launcher.io.toolchain import ToolchainMissing, find_toolchain
from launcher.service import resizing
from launcher.service.planning import qemu_facts
from launcher.service.resizing import Room, resize
from policy.vocab import Platform

pytestmark = pytest.mark.qemu
MIB = 1 << 20
ROOM = Room(256 * MIB, 512 * MIB, 2, balloon=True)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No guest runs here that could answer."""
    monkeypatch.setattr(resizing, "GUEST_SECONDS", 0.2)


def module(name: str, size: int) -> str:
    return json_value(qom_type="memory-backend-memfd", id=name, size=size)


@contextmanager
def running(tmp_path: Path, placement: Placement = Placement(), **changes: object) -> Iterator[Qemu]:  # noqa: B008
    try:
        qemu = qemu_facts(find_toolchain())
    except ToolchainMissing as exc:
        pytest.skip(exc.message)
    vm = VmDir(str(tmp_path / "state"), "t")
    vm.create()
    Path(vm.file("serial.log")).touch(0o600)
    plain = VmSpec(
        "t", Platform.NONE, "tcg", qemu.can, 256 * MIB, 1, "max", None, None, None, None, (), None, None, None
    )
    spec = plain._replace(**changes)
    wanted = confinement(IsolationSettings(), spec, qemu)._replace(placement=placement)
    with open(vm.file("qemu.log"), "ab") as log, jail_for(wanted, vm) as jail:
        started = start_qemu((*qemu.argv, *qemu_options(spec)), dict(qemu.env), vm, log, jail, lambda _pid: None)
        try:
            yield started
        finally:
            started.close()


def test_every_device_and_shape_is_taken_by_qemu(tmp_path: Path) -> None:
    with running(
        tmp_path,
        vcpus=8, sockets=2, threads=2, features=("-avx512f",),
        ram=Ram(merge=True, balloon=True, free_page_reporting=True, max=1024 * MIB, prealloc=True),
        numa=(NumaNode("0-3", 128 * MIB, 0), NumaNode("4-7", 128 * MIB)),
        devices=Devices(rng=True, usb_tablet=True, video="std"),
    ) as qemu:  # fmt: skip
        cpus = qemu.qmp.execute("query-cpus-fast")
        assert [item["props"]["socket-id"] for item in cpus] == [0] * 4 + [1] * 4
        assert [item["props"]["node-id"] for item in cpus] == [0] * 4 + [1] * 4
        found = {item["qdev_id"] for bus in qemu.qmp.execute("query-pci") for item in bus["devices"]}
        assert {"balloon0", "entropy0", "usb0", "video0"} <= found
        backends = qemu.qmp.execute("query-memdev")
        assert [item["host-nodes"] for item in backends] in ([[0], []], [[], [0]]) and all(
            item["merge"] for item in backends
        )


def test_memory_can_be_filled_before_the_guest_starts(tmp_path: Path) -> None:
    with running(tmp_path, ram=Ram(prealloc=True)) as qemu:
        assert qemu.qmp.execute("query-memdev")[0]["prealloc"] is True
        status = Path(f"/proc/{qemu.child.pid}/status").read_text()
    assert next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssShmem")) >= 256 << 10


def test_huge_pages_that_are_not_there_stop_the_launch_in_qemus_words(tmp_path: Path) -> None:
    if int(Path("/proc/sys/vm/nr_hugepages").read_text() or 0):
        pytest.skip("this machine has huge pages")
    with pytest.raises(QemuFailed, match="Cannot allocate memory"), running(tmp_path, ram=Ram(huge_pages=2 * MIB)):
        pass


def test_a_running_vm_gets_more_memory_up_to_what_was_planned(tmp_path: Path) -> None:
    with running(tmp_path, ram=Ram(balloon=True, max=512 * MIB, slots=1)) as qemu:
        answer = resize(ROOM._replace(slots=1), qemu.qmp, 384 * MIB, module)
        assert (answer["plugged"], answer["slots_left"]) == (128 * MIB, 0)
        assert qemu.qmp.execute("query-memory-size-summary")["plugged-memory"] == 128 * MIB
        with pytest.raises(WrongState, match="all 1 slots are taken"):
            resize(ROOM._replace(slots=1), qemu.qmp, 512 * MIB, module)
        lower = resize(ROOM._replace(slots=1), qemu.qmp, 200 * MIB, module)
        assert lower["wanted"] == 200 * MIB and "the guest has" in str(lower["said"])


@pytest.mark.parametrize(
    ("size", "room", "words"),
    [
        (640 * MIB, ROOM, "at most 512 MiB"),
        (300 * MIB, ROOM, "steps of 128 MiB"),
        (200 * MIB, ROOM._replace(balloon=False), "no balloon"),
        (384 * MIB, ROOM._replace(max=None), "no room to grow"),
        (64 * MIB, ROOM, "at least 128 MiB"),
    ],
)
def test_a_size_that_cannot_be_is_refused(tmp_path: Path, size: int, room: Room, words: str) -> None:
    with (
        running(tmp_path, ram=Ram(balloon=True, max=512 * MIB, slots=2)) as qemu,
        pytest.raises(WrongState, match=words),
    ):
        resize(room, qemu.qmp, size, module)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
def test_threads_of_a_live_qemu_are_pinned_though_it_numbers_them_in_a_namespace_of_its_own(tmp_path: Path) -> None:
    one, two = sorted(os.sched_getaffinity(0))[:2]
    placement = Placement(vcpus=(str(two), str(two)), emulator=str(one))
    with running(tmp_path, vcpus=2) as qemu:
        pinned = pin(qemu.qmp, qemu.child.pid, placement)
        assert [item.problem for item in pinned] == ["", "", ""]
        vcpus = {item["thread-id"] for item in qemu.qmp.execute("query-cpus-fast")}
        for inside, tid in threads_of(qemu.child.pid).items():
            assert os.sched_getaffinity(tid) == ({two} if inside in vcpus else {one})


def test_memory_comes_from_the_node_that_was_chosen(tmp_path: Path) -> None:
    with running(tmp_path, Placement(mems="0")) as qemu:
        step = next(item for item in qemu.steps if item.name == "memory nodes")
        maps = Path(f"/proc/{qemu.child.pid}/numa_maps").read_text()
    assert step.enforced and step.detail == "from node 0 only"
    assert " bind:0 " in maps and " default " not in maps


def test_a_node_that_is_not_there_is_told(tmp_path: Path) -> None:
    with running(tmp_path, Placement(mems="63")) as qemu:
        step = next(item for item in qemu.steps if item.name == "memory nodes")
    assert not step.enforced and "set_mempolicy" in step.detail


def test_cores_are_its_own_or_the_kernels_refusal_is_told(tmp_path: Path) -> None:
    with running(tmp_path, Placement(smt_isolation=True)) as qemu:
        step = next(item for item in qemu.steps if item.name == "core scheduling")
        if step.enforced:
            cookie = ctypes.c_uint64()
            libc = ctypes.CDLL(None, use_errno=True)
            assert libc.prctl(62, 0, qemu.child.pid, 0, ctypes.byref(cookie)) == 0 and cookie.value
        else:
            assert step.detail.endswith((os.strerror(errno.ENODEV), os.strerror(errno.EINVAL)))


def test_virtio_mem_is_asked_for_blocks_and_says_what_the_guest_took(tmp_path: Path) -> None:
    room = ROOM._replace(balloon=False, by_device=True)
    with running(tmp_path, ram=Ram(max=512 * MIB, grow=VIRTIO_MEM, prealloc=True)) as qemu:
        answer = resize(room, qemu.qmp, 384 * MIB, module)
        assert (answer["plugged"], answer["slots_left"]) == (0, 0)
        assert (
            str(answer["said"]) == "256 MiB plugged in (384 MiB asked for: its virtio-mem driver has not answered yet)"
        )
        (device,) = qemu.qmp.execute("query-memory-devices")
        assert (device["type"], device["data"]["requested-size"]) == ("virtio-mem", 128 * MIB)
        with pytest.raises(WrongState, match="blocks of 2 MiB"):
            resize(room, qemu.qmp, 385 * MIB, module)
        with pytest.raises(WrongState, match="at most 512 MiB"):
            resize(room, qemu.qmp, 640 * MIB, module)
        assert resize(room, qemu.qmp, 256 * MIB, module)["said"] == "256 MiB plugged in"


def test_a_module_that_the_guest_does_not_give_back_stays_and_is_asked_for_again(tmp_path: Path) -> None:
    room = ROOM._replace(balloon=False)
    with running(tmp_path, ram=Ram(max=512 * MIB, slots=2)) as qemu:
        resize(room, qemu.qmp, 512 * MIB, module)
        with pytest.raises(WrongState, match="dimm0 has 256 MiB, and modules are taken out whole"):
            resize(room, qemu.qmp, 384 * MIB, module)
        for _ in range(2):
            answer = resize(room, qemu.qmp, 256 * MIB, module)
            assert answer["said"] == "512 MiB plugged in; the guest has not yet given back dimm0"


def test_memory_of_a_module_that_came_back_late_is_freed_before_anything_else(tmp_path: Path) -> None:
    room = ROOM._replace(balloon=False)
    with running(tmp_path, ram=Ram(max=512 * MIB, slots=2)) as qemu:
        qemu.qmp.execute("object-add", **json.loads(module("dimm0-ram", 128 * MIB)))
        assert resize(room, qemu.qmp, 384 * MIB, module)["plugged"] == 128 * MIB
        assert [item["id"] for item in qemu.qmp.execute("query-memdev")].count("dimm0-ram") == 1
