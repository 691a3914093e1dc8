"""Put the threads of a running QEMU on the processors chosen for them, from outside: QEMU itself may not (seccomp).

QEMU names its threads by the numbers it sees; in a PID namespace those are not this process's. ``NSpid`` in
``/proc/PID/task/TID/status`` has both. Sources: proc(5), sched_setaffinity(2), QAPI ``query-cpus-fast``.
"""

from __future__ import annotations

import os
from pathlib import Path

from launcher.core.hardware import Placement
from launcher.core.limits import cpu_list
from launcher.errors import QmpMalformed
from launcher.io.qmp import Qmp
from policy.named import NamedTuple


class Pinned(NamedTuple):
    """One group of threads: where it is, or why it is not."""

    what: str
    cpus: str
    problem: str = ""


def pin(qmp: Qmp, pid: int, placement: Placement) -> tuple[Pinned, ...]:
    """Pin what ``placement`` says. New threads inherit from the one that makes them, QEMU's main thread."""
    vcpus, io = _threads(qmp, "query-cpus-fast"), _threads(qmp, "query-iothreads")
    outside = threads_of(pid)
    rest = [tid for inside, tid in outside.items() if inside not in {*vcpus, *io}]
    found = []
    if placement.emulator is not None:
        found.append(_set("QEMU's own threads", rest, placement.emulator))
    if placement.io is not None and io:
        found.append(_set("I/O threads", [outside[tid] for tid in io if tid in outside], placement.io))
    for number, (inside, cpus) in enumerate(zip(vcpus, placement.vcpus, strict=False)):
        found.append(_set(f"vCPU {number}", [outside[inside]] if inside in outside else [], cpus))
    return tuple(found)


def threads_of(pid: int) -> dict[int, int]:
    """A process's threads: the number it sees itself -> the number this process sees."""
    found = {}
    for folder in Path(f"/proc/{pid}/task").iterdir():
        try:
            lines = (folder / "status").read_text("utf-8", "replace").splitlines()
        except OSError:
            continue  # it has ended
        numbers = next((line.split()[1:] for line in lines if line.startswith("NSpid:")), [folder.name])
        found[int(numbers[-1])] = int(folder.name)
    return found


def statement(pinned: tuple[Pinned, ...]) -> list[str]:
    """For a person: what is where, and what is not."""
    done = ", ".join(f"{item.what} on {item.cpus}" for item in pinned if not item.problem)
    lines = [f"placement: {done}"] if done else []
    return lines + [
        f"placement: NOT enforced: {item.what} on {item.cpus}: {item.problem}" for item in pinned if item.problem
    ]


def _threads(qmp: Qmp, command: str) -> list[int]:
    answer = qmp.execute(command)
    try:
        found = [item["thread-id"] for item in sorted(answer, key=lambda item: item.get("cpu-index", 0))]
    except (TypeError, KeyError, AttributeError):
        raise QmpMalformed(f"QMP: {command}: want a list of objects with thread-id") from None
    if not all(isinstance(number, int) for number in found):
        raise QmpMalformed(f"QMP: {command}: thread-id must be an integer")
    return found


def _set(what: str, threads: list[int], cpus: str) -> Pinned:
    if not threads:
        return Pinned(what, cpus, "there is no such thread")
    wanted = cpu_list(cpus)
    for tid in threads:
        try:
            os.sched_setaffinity(tid, wanted)
        except ProcessLookupError:
            continue  # a worker that has ended
        except OSError as exc:
            return Pinned(what, cpus, str(exc.strerror))
        if os.sched_getaffinity(tid) != wanted:
            return Pinned(what, cpus, "the kernel allows only a part of them")
    return Pinned(what, cpus)
