"""Use case *move*: a VM leaves this host, cold. The order of things is in :mod:`launcher.core.moving`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from launcher.config.vm_toml import parse_vm
from launcher.core import names
from launcher.core.migration import Target
from launcher.core.moving import (
    DISK,
    HOSTS,
    Contents,
    Offer,
    named_files,
    offer_document,
    placed,
    refuse_unmovable,
    wanted,
)
from launcher.core.states import LIVE, MOVED, MOVING
from launcher.errors import PlanRefused, WrongState
from launcher.io import clock, ledger
from launcher.io.hashing import read_file
from launcher.io.layers import has_layers
from launcher.io.migration import connect
from launcher.io.move_wire import MoveFailed, Wire, contents
from launcher.io.moved import mark, refuse_moved, unmark
from launcher.io.statedir import VmDir, existing, state_root
from launcher.service.listing import describe
from launcher.service.planning import prepare
from launcher.service.stopping import stop
from policy.errors import CvmError
from policy.named import NamedTuple
from policy.toml import MAX_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Leaving(NamedTuple):
    """A VM that goes; ``path``: its VM file; ``disks`` as the VM file writes their paths."""

    vm: VmDir
    path: str
    offer: Offer
    disks: tuple[str, ...]
    to: str

    def at(self, path: str) -> str:
        """A file of the VM file on this host."""
        return placed(path, os.path.dirname(self.path))


def move(name: str, target: Target, *, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Move it; how its launch went at the other side (members of ``cvm.launch/1``), empty for a VM that was down.

    Raises `NotFound`, `WrongState`, `PlanRefused`, :class:`MoveFailed`. Before the commit the VM stays this host's.
    """
    leaving = _leaving(existing(state_root(), name), target.text)
    with contextlib.closing(connect(target)) as connection:
        wire = Wire(connection)
        wire.send(**offer_document(leaving.offer))
        fixed = {path: item for path, item in leaving.offer.files.items() if path not in leaving.disks}
        _send_wanted(wire, leaving, fixed, say)
        wire.expect("ready")
        say(f"{target.text} can run it and expects the same measurement")
        if leaving.offer.was_up:
            stop(name, force=False, seconds=seconds)
            say("stopped here")
        with _locked(leaving):
            _hand_over(wire, leaving, say)
        answer = wire.expect("result") if leaving.offer.was_up else {}
    return answer if isinstance(answer, dict) else {}


def release(name: str) -> None:
    """Take the mark away: the VM may start here again. Raises `NotFound`, `WrongState`."""
    vm = existing(state_root(), name)
    vm.lock()
    try:
        if not os.path.exists(vm.file(names.MOVED_FILE)):
            raise WrongState(f"VM {name} is {describe(vm)['state']}: it was not moved away", hint="cvm ps")
        ledger.append(vm, {"event": "released", "time": clock.now()})
        unmark(vm, "released: it may start here again")
    finally:
        vm.unlock()


def _refuse_layers(disks: list[str]) -> None:
    for path in disks:
        if has_layers(path):
            raise PlanRefused(
                f"move: snapshots lie in layers over {path}, and stay behind",
                code="move.layers",
                hint="cvm snapshot delete",
            )


def _leaving(vm: VmDir, to: str) -> Leaving:
    refuse_moved(vm)
    row = describe(vm)
    up = row["state"] in LIVE
    if not up and row["state"] not in ("stopped", "failed", "refused"):
        raise WrongState(f"VM {vm.name} is {row['state']}", hint=f"cvm stop {vm.name}")
    path = str(row["config"])
    toml = read_file(path, "VM file", MAX_BYTES)
    config = parse_vm(toml, os.path.basename(path))
    refuse_unmovable(config)
    found = [item for item in named_files(config) if item.kind != HOSTS]
    folder = os.path.dirname(path)
    files = {item.path: contents(placed(item.path, folder), hashed=item.kind != DISK) for item in found}
    _refuse_layers([placed(item.path, folder) for item in found if item.kind == DISK])
    measured = prepare(path).measurement
    offer = Offer(os.path.basename(path), toml.decode("utf-8"), up, measured, os.uname().nodename, files)
    return Leaving(vm, path, offer, tuple(item.path for item in found if item.kind == DISK), to)


def _send_wanted(wire: Wire, leaving: Leaving, offered: Mapping[str, Contents], say: Callable[[str], None]) -> None:
    for path in wanted(wire.receive(), offered):
        say(f"sending {path}: {offered[path].size} bytes")
        wire.send_file(leaving.at(path), offered[path].size)


@contextmanager
def _locked(leaving: Leaving) -> Iterator[None]:
    """Nothing on this host may start the VM, or change its disks, while they are read."""
    vm = leaving.vm
    vm.lock()
    try:
        refuse_moved(vm)
        mark(vm, MOVING, leaving.to, clock.now())
        yield
    finally:
        vm.unlock()


def _hand_over(wire: Wire, leaving: Leaving, say: Callable[[str], None]) -> None:
    """From the stopped VM to the commit. What fails before it takes the mark away again."""
    vm = leaving.vm
    try:
        disks = {path: contents(leaving.at(path)) for path in leaving.disks}
        wire.send(disks={path: list(item) for path, item in disks.items()})
        _send_wanted(wire, leaving, disks, say)
        wire.expect("received")
    except BaseException as exc:
        unmark(vm, f"not moved: {exc.message if isinstance(exc, CvmError) else type(exc).__name__}"[:400])
        raise
    head = ledger.read_ledger(vm)
    mark(vm, MOVED, leaving.to, clock.now())
    digests = {path: item.sha256 for path, item in disks.items()}
    ledger.append(vm, {"event": "moved", "time": clock.now(), "to": leaving.to, "disks": digests})
    try:
        wire.send(commit={"lines": len(head.entries), "head": head.head})
        wire.expect("done")
    except CvmError as exc:
        raise MoveFailed(
            f"VM {vm.name}: everything was handed over, but not confirmed: {exc.message}",
            code="move.unconfirmed",
            hint=f"look there (cvm ps); where it is not, cvm move {vm.name} --release makes it this host's again",
        ) from None
