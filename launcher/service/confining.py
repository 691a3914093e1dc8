"""Start a planned VM's QEMU confined and limited, and say what of that this host enforces."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from launcher.core.confinement import confinement
from launcher.core.hardware import Placement
from launcher.core.limits import settings
from launcher.core.names import CONFINEMENT_FILE
from launcher.io import isolation
from launcher.io.isolation import Fds
from launcher.io.qemu import Qemu, start_qemu
from launcher.io.statedir import VmDir
from launcher.service.connecting import connected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

    from launcher.io.cgroup import Placed
    from launcher.io.pinning import Pinned
    from launcher.io.resctrl import Partition
    from launcher.service.planning import Prepared


@contextmanager
def confined_qemu(
    prepared: Prepared, vm: VmDir, log: IO[bytes], say: Callable[[str], None], fds: Fds = ()
) -> Iterator[Qemu]:
    """QEMU runs inside and gets ``fds``; afterwards its user and its cgroup are taken back."""
    config, plan = prepared.config, prepared.plan
    wanted = settings(config.limits, config.platform, plan.placement.mems)
    placed: list[Placed] = []
    cached: list[Partition] = []
    confined = confinement(config.isolation, plan.spec, plan.qemu)

    def limit(pid: int) -> None:
        from launcher.io.cgroup import place  # while QEMU loads

        placed.append(place(vm.name, pid, wanted))

    with (
        connected(config, vm.path) as opened,
        _shared(prepared, vm, say) as folders,
        isolation.jail_for(confined._replace(placement=plan.placement), vm) as jail,
    ):
        try:
            qemu = start_qemu(plan.argv, dict(plan.qemu.env), vm, log, jail, limit, (*fds, *opened, *folders))
            try:
                pinned, told = _pinned(qemu, plan.placement)
                told += _cached(qemu, vm.name, plan.placement, cached)
                said = (*isolation.statement(qemu.steps), *_limited(placed[0]), *told)
                for line in said:
                    say(line)
                vm.write_json(CONFINEMENT_FILE, _document(qemu, placed[0], pinned, cached))
                yield qemu
            finally:
                qemu.close()
        finally:
            for item in placed:
                _unlimit(item)
            for given in cached:
                _uncache(given)


def _shared(prepared: Prepared, vm: VmDir, say: Callable[[str], None]) -> contextlib.AbstractContextManager[Fds]:
    """The connections to the daemons of shared folders."""
    plan = prepared.plan
    if not plan.spec.shares:
        return contextlib.nullcontext(())
    from launcher.io.virtiofs import shared

    return shared(plan.spec.shares, prepared.config.isolation, plan.qemu, vm, say)


def _limited(placed: Placed) -> list[str]:
    from launcher.io.cgroup import statement

    return statement(placed)


def _unlimit(placed: Placed) -> None:
    from launcher.io.cgroup import release

    release(placed)


def _cached(qemu: Qemu, name: str, placement: Placement, cached: list[Partition]) -> list[str]:
    if not placement.l3_ways:
        return []
    from launcher.io.pinning import threads_of
    from launcher.io.resctrl import partition, statement

    cached.append(partition(name, threads_of(qemu.child.pid).values(), placement.l3_ways))
    return [statement(cached[0])]


def _uncache(given: Partition) -> None:
    from launcher.io.resctrl import release

    release(given)


def _pinned(qemu: Qemu, placement: Placement) -> tuple[tuple[Pinned, ...], list[str]]:
    if placement == Placement():
        return (), []
    from launcher.io.pinning import pin, statement

    pinned = pin(qemu.qmp, qemu.child.pid, placement)
    return pinned, statement(pinned)


def _document(qemu: Qemu, placed: Placed, pinned: tuple[Pinned, ...], cached: list[Partition]) -> dict[str, object]:
    return {
        "schema": "cvm.isolation/1",
        "steps": [step._asdict() for step in qemu.steps],
        "limits": {"enforced": placed.enforced, "refused": [list(item) for item in placed.refused]},
        "placement": [item._asdict() for item in pinned],
        "cache": [item._asdict() for item in cached],
    }
