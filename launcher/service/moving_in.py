"""Use case *receive*: a VM comes to this host, cold. The order of things is in :mod:`launcher.core.moving`."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from launcher.config.vm_toml import parse_vm
from launcher.core import names
from launcher.core.migration import Target
from launcher.core.moving import (
    DISK,
    HOSTS,
    Contents,
    MoveMalformed,
    Named,
    Offer,
    named_files,
    parse_contents,
    parse_earlier,
    parse_offer,
    placed,
    refuse_unconfined,
    refuse_unmovable,
)
from launcher.core.states import MOVED, STOPPED
from launcher.core.vm import VmConfig
from launcher.errors import PlanRefused, StateUnusable, WrongState
from launcher.io import clock, ledger
from launcher.io.migration import listen
from launcher.io.move_wire import MoveFailed, Wire, contents
from launcher.io.statedir import VmDir, state_root, sync
from launcher.service.detaching import detach
from launcher.service.launching import refuse_blocked
from launcher.service.planning import prepare
from policy.errors import CvmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STATE_SCHEMA = "cvm.state/1"


def receive(
    target: Target, into: str, say: Callable[[str], None], *, unconfined: bool = False
) -> tuple[str, dict[str, Any]]:
    """Wait at ``target`` for one VM and take it: its name, and how its launch went (``cvm.launch/1``; empty when it was
    down where it came from). Its files go below ``into``. ``unconfined``: also one whose file says how its QEMU is
    confined. Raises what keeps it from coming, after telling the source.
    """
    _refuse_absent(into)
    with contextlib.closing(listen(target)) as server:
        say(f"waiting at {target.text}")
        select.select([server], [], [])
        connection, _ = server.accept()
    if target.path is not None:
        os.unlink(target.path)
    with connection:
        connection.setblocking(True)
        wire = Wire(connection)
        try:
            path, offer, name = _take(wire, os.path.abspath(into), say, unconfined=unconfined)
        except (CvmError, OSError) as exc:
            with contextlib.suppress(MoveFailed):
                wire.send(refused=exc.message if isinstance(exc, CvmError) else f"{exc.filename}: {exc.strerror}")
            if isinstance(exc, OSError):
                raise StateUnusable(f"move: {exc.filename}: {exc.strerror}") from None
            raise
        if not offer.was_up:
            return name, {}
        result = _launched(path, say)
        with contextlib.suppress(MoveFailed):
            wire.send(result=result)
        return name, result


def _refuse_absent(folder: str) -> None:
    """Before anybody waits for a VM, and again when it comes."""
    if not os.path.isdir(folder):
        raise StateUnusable(f"move: {folder}: no such folder")


def _launched(path: str, say: Callable[[str], None]) -> dict[str, Any]:
    """It is this host's now, whatever becomes of its launch."""
    try:
        document = detach(path, (), say)
    except CvmError as exc:
        return {"outcome": "failed", "code": exc.code, "reason": exc.message}
    return {key: document.get(key) for key in ("state", "outcome", "code", "reason", "launch_digest", "emulated")}


def _take(wire: Wire, into: str, say: Callable[[str], None], *, unconfined: bool) -> tuple[str, Offer, str]:
    """Up to the commit and the answer to it. Whatever fails before leaves nothing of the VM here."""
    offer = parse_offer(wire.receive())
    config = parse_vm(offer.toml.encode("utf-8"), offer.vm_file)
    refuse_unmovable(config)
    if not unconfined:
        refuse_unconfined(config)
    say(f"{config.name} wants to come from {offer.source}")
    with _claimed(config.name) as vm, Files(into) as files:
        named = [item for item in named_files(config) if item.kind != HOSTS]
        _fixed(wire, files, named, offer.files)
        path = files.write(offer.vm_file, offer.toml.encode("utf-8"))
        _agree(path, offer)
        wire.send(ready=True)
        disks = _parse_disks(wire.expect("disks"), named)
        _moving(wire, files, disks)
        wire.send(received=True)
        earlier = parse_earlier(wire.expect("commit"))
        _settle(vm, _recorded(path, config, offer), earlier)
        files.keep()
    with contextlib.suppress(MoveFailed):  # it is this host's, whether or not the source hears of it
        wire.send(done=True)
    return path, offer, config.name


@contextmanager
def _claimed(name: str) -> Iterator[VmDir]:
    """The VM's state folder, locked; removed again when the VM does not come. One that left from here may come back."""
    vm = VmDir(state_root(), name)
    fresh = not os.path.exists(vm.path)
    vm.create()
    vm.lock()
    try:
        if os.path.exists(vm.file(names.STATE_FILE)) and vm.read_json(names.STATE_FILE).get("state") != MOVED:
            raise WrongState(f"there is a VM named {name} here already", hint=f"cvm stop {name} --forget")
        yield vm
    except BaseException:
        if fresh:
            vm.clear()
            vm.remove("lock")
            os.rmdir(vm.path)
        raise
    finally:
        vm.unlock()


class Files:
    """What was written below ``into``; removed at the end unless :meth:`keep` was called."""

    def __init__(self, into: str) -> None:
        self._into = into
        self._made: list[str] = []

    def __enter__(self) -> Files:
        _refuse_absent(self._into)
        return self

    def __exit__(self, *problem: object) -> None:
        for path in reversed(self._made):
            with contextlib.suppress(OSError):
                (os.rmdir if os.path.isdir(path) else os.unlink)(path)

    def keep(self) -> None:
        """It is this host's VM from now on."""
        self._made = []

    def at(self, path: str) -> str:
        """Where a file of the VM file belongs here. Raises :class:`PlanRefused` for one that a link leads elsewhere."""
        found = placed(path, self._into)
        if not path.startswith("/"):
            real, root = os.path.realpath(os.path.dirname(found)), os.path.realpath(self._into)
            if real != root and not real.startswith(f"{root}/"):
                raise PlanRefused(f"move: {path[:200]}: leads out of {self._into}", code="move.outside")
        return found

    def take(self, wire: Wire, path: str, expected: Contents) -> None:
        """A file that comes over the wire, under the folders its path names."""
        target = self.at(path)
        self._folders(os.path.dirname(target))
        wire.receive_file(target, expected)
        self._made.append(target)
        sync(os.path.dirname(target))

    def write(self, name: str, data: bytes) -> str:
        """The VM file; one that is there must be the same."""
        path = self.at(name)
        if os.path.lexists(path):
            with open(path, "rb") as file:  # noqa: PTH123  pathlib costs start-up time
                if file.read(len(data) + 1) != data:
                    raise PlanRefused(f"move: {path}: another file of that name is here", code="move.name-taken")
            return path
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._made.append(path)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        sync(self._into)
        return path

    def _folders(self, folder: str) -> None:
        missing = []
        while not os.path.isdir(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for path in reversed(missing):
            os.mkdir(path, 0o700)
            self._made.append(path)


def _fixed(wire: Wire, files: Files, named: list[Named], offered: Mapping[str, Contents]) -> None:
    """Kernel, initrd and the like: those that are here must be the same, the others come now."""
    if set(offered) != {item.path for item in named}:
        raise MoveMalformed("move: the offer's files are not those the VM file names")
    want = []
    for item in named:
        here = files.at(item.path)
        if not os.path.exists(here):
            if item.path.startswith("/"):
                raise PlanRefused(
                    f"move: {here}: not here, and absolute paths are not written",
                    code="move.absent-file",
                    hint="put it there",
                )
            want += [] if item.kind == DISK else [item.path]
        elif item.kind != DISK and contents(here) != offered[item.path]:
            raise PlanRefused(
                f"move: {here}: what is here is not what the VM has",
                code="move.different-file",
                hint="move it out of the way",
            )
    wire.send(want=want)
    for path in want:
        files.take(wire, path, offered[path])


def _agree(path: str, offer: Offer) -> None:
    """This host can run it, and it would measure what it measured there."""
    prepared = prepare(path)
    refuse_blocked(prepared)
    if prepared.measurement != offer.measurement:
        raise PlanRefused(
            f"move: it would measure {prepared.measurement} here, it measured {offer.measurement} there",
            code="move.measurement",
            hint="another firmware or QEMU: cvm plan on both hosts shows every input",
        )


def _parse_disks(document: object, named: list[Named]) -> dict[str, Contents]:
    wanted = {item.path for item in named if item.kind == DISK}
    if not isinstance(document, dict) or set(document) != wanted:
        raise MoveMalformed("move: the disks sent are not those the VM file names")
    found = {path: parse_contents(value) for path, value in document.items()}
    if not all(item.sha256 for item in found.values()):
        raise MoveMalformed("move: a disk without its sha256")
    return found


def _moving(wire: Wire, files: Files, disks: Mapping[str, Contents]) -> None:
    """A disk that is here must be the very one, by its digest: a shared one. The others come now."""
    want = [path for path in disks if not os.path.exists(files.at(path))]
    for path, expected in disks.items():
        if path not in want and contents(files.at(path)) != expected:
            raise PlanRefused(
                f"move: {files.at(path)}: is not the VM's disk as it was left",
                code="move.changed-disk",
                hint="an older copy? move it out of the way; a shared disk is the same here and there",
            )
    wire.send(want=want)
    for path in want:
        files.take(wire, path, disks[path])


def _recorded(path: str, config: VmConfig, offer: Offer) -> dict[str, object]:
    """The state of a VM that was never launched here."""
    return {
        "schema": STATE_SCHEMA,
        "name": config.name,
        "state": STOPPED,
        "reason": f"came from {offer.source}",
        "platform": config.platform.value,
        "vcpus": config.cpu.vcpus,
        "memory": config.memory,
        "since": clock.now(),
        "attested": False,
        "launch_digest": None if offer.measurement is None else offer.measurement.partition(":")[0],
        "config": path,
    }


def _settle(vm: VmDir, recorded: dict[str, object], earlier: dict[str, object]) -> None:
    """The first line of its life here binds the ledger it had there, by number of lines and digest. The mark of a VM
    that comes back goes last: whatever fails before leaves it marked.
    """
    ledger.append(vm, {"event": "arrived", "time": clock.now(), "how": recorded["reason"], "their_ledger": earlier})
    vm.write_json(names.STATE_FILE, recorded)
    vm.remove(names.MOVED_FILE)
