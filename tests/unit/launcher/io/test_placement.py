"""Where a VM runs: a made-up host of two nodes, and the threads of a process of this machine's own."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from launcher.core.caution import Caution
from launcher.core.hardware import Placement
from launcher.core.placing import resolve
from launcher.core.topology import Chosen, HostTopology, Wish, as_list, choose
from launcher.io.pinning import pin, statement, threads_of
from launcher.io.topology import read_topology
from tests.fakes.vm_files import web_1

GIB = 1 << 30


@pytest.fixture
def host(tmp_path: Path) -> HostTopology:
    """Two nodes of 8 processors: 4 cores of 2 threads (n and n + 4), a cache for every two cores; node 1 has more free."""
    for number in range(16):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{number}"
        first = number // 8 * 8
        core = first + number % 4
        (folder / "topology").mkdir(parents=True)
        (folder / "topology/thread_siblings_list").write_text(f"{core},{core + 4}\n")
        half = first + number % 4 // 2 * 2
        for level, kind, shared in ((1, "Instruction", "x"), (2, "Unified", f"{core},{core + 4}"),
                                    (3, "Unified", f"{half}-{half + 1},{half + 4}-{half + 5}")):  # fmt: skip
            index = folder / f"cache/index{level}"
            index.mkdir(parents=True)
            for name, text in (("level", str(level)), ("type", kind), ("shared_cpu_list", shared)):
                (index / name).write_text(f"{text}\n")
    (tmp_path / "sys/devices/system/cpu/online").write_text("0-15\n")
    for node, cpus, free in ((0, "0-7", 8), (1, "8-15", 16)):
        folder = tmp_path / f"sys/devices/system/node/node{node}"
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(f"{cpus}\n")
        (folder / "meminfo").write_text(f"Node {node} MemFree:  {free << 20} kB\nNode {node} Inactive(file): 0 kB\n")
    return read_topology(tmp_path, frozenset(range(16)))


def chosen(host: HostTopology, wish: Wish, taken: frozenset[int] = frozenset()) -> Chosen:
    found = choose(host, wish, taken)
    assert isinstance(found, Chosen), found
    return found


def test_the_host_is_read_as_it_is(host: HostTopology) -> None:
    assert host.smt and [(node.number, node.free) for node in host.nodes] == [(0, 8 * GIB), (1, 16 * GIB)]
    assert host.cpus[5].core == "1,5" and host.cpus[5].cache == "0-1,4-5" and host.cpus[9].node == 1


def test_two_vcpus_share_a_cache_on_two_cores_of_the_node_with_most_memory(host: HostTopology) -> None:
    found = chosen(host, Wish(2, 1, 4 * GIB, whole_cores=False))
    assert (found.vcpus, found.node) == ((8, 9), 1) and "one last-level cache" in found.why


def test_sibling_vcpus_get_sibling_processors(host: HostTopology) -> None:
    assert chosen(host, Wish(4, 2, GIB, whole_cores=False)).vcpus == (8, 12, 9, 13)


def test_with_cores_of_its_own_no_sibling_is_left_to_others(host: HostTopology) -> None:
    found = chosen(host, Wish(2, 1, GIB, whole_cores=True))
    assert found.vcpus == (8, 9) and not {12, 13} & set(found.others)
    assert isinstance(choose(host, Wish(5, 1, GIB, whole_cores=True)), str)


def test_processors_of_another_vm_are_left_alone(host: HostTopology) -> None:
    assert chosen(host, Wish(2, 1, GIB, whole_cores=False), frozenset(range(8, 15))).node == 0


def test_what_fits_no_node_is_not_pinned_and_the_plan_says_why(host: HostTopology) -> None:
    found = choose(host, Wish(2, 1, 17 * GIB, whole_cores=False))
    assert isinstance(found, str) and "node 1: 8 processors, 16384 MiB" in found
    config = web_1()._replace(memory=17 * GIB, placement=Placement(auto=True))
    placement, _, warnings = resolve(config, host, frozenset())
    assert placement.vcpus == () and warnings[0].text.startswith(
        "placement.auto: 4 vCPUs with 17408 MiB fit no single node"
    )


def test_a_plan_shows_the_choice_with_its_reason(host: HostTopology) -> None:
    config = web_1()._replace(placement=Placement(auto=True, smt_isolation=True))
    placement, decisions, warnings = resolve(config, host, frozenset())
    assert placement.vcpus == ("8", "9", "10", "11") and placement.mems == "1" and warnings == ()
    assert [what for what, _, _ in decisions] == [
        "vCPUs on",
        "I/O threads on",
        "QEMU on",
        "memory from",
        "SMT isolation",
    ]


@pytest.mark.parametrize(
    ("placement", "id_", "warning"),
    [
        (Placement(vcpus=("99",) * 4, mems="0"), "placement.processors", "this launcher may not use processors 99"),
        (Placement(vcpus=("0", "8", "0", "8"), mems="0"), "placement.nodes", "vCPUs are on nodes 0-1, but the guest sees one: it cannot keep them near memory"),
        (Placement(vcpus=("0",) * 4, mems="1"), "placement.far-memory", "vCPUs are on node 0, memory comes from node 1"),
        (Placement(vcpus=("3",) * 4, mems="0"), "placement.taken", "processors 3 have another VM's vCPUs"),
        (Placement(vcpus=("0",) * 4), "placement.mems", "private pages cannot be moved to another node later: choose placement.mems"),
    ],
)  # fmt: skip
def test_a_doubtful_placement_is_warned_of(host: HostTopology, placement: Placement, id_: str, warning: str) -> None:
    assert resolve(web_1()._replace(placement=placement), host, frozenset({3}))[2] == (
        Caution(id_, f"placement: {warning}"),
    )


def test_lists_are_written_as_the_kernel_does() -> None:
    assert as_list([8, 0, 1, 2]) == "0-2,8" and as_list(()) == ""


class Monitor:
    """What QEMU would answer about threads of this process."""

    def __init__(self, vcpus: list[int]) -> None:
        self._vcpus = vcpus

    def execute(self, command: str) -> list[dict[str, int]]:
        if command == "query-iothreads":
            return []
        return [{"cpu-index": number, "thread-id": tid} for number, tid in enumerate(self._vcpus)]


def test_a_thread_is_pinned_and_one_that_is_not_there_is_told() -> None:
    allowed = sorted(os.sched_getaffinity(0))
    done, ready = threading.Event(), threading.Event()
    tids: list[int] = []

    def wait() -> None:
        tids.append(threading.get_native_id())
        ready.set()
        done.wait(20)

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        assert ready.wait(20)
        assert threads_of(os.getpid())[tids[0]] == tids[0]
        placement = Placement(vcpus=(str(allowed[0]), "0"))
        pinned = pin(Monitor([tids[0], 1 << 22]), os.getpid(), placement)  # type: ignore[arg-type]
        assert os.sched_getaffinity(tids[0]) == {allowed[0]}
    finally:
        done.set()
        thread.join()
    assert statement(pinned) == [
        f"placement: vCPU 0 on {allowed[0]}",
        "placement: NOT enforced: vCPU 1 on 0: there is no such thread",
    ]
