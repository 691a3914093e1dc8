"""Start QEMU confined: prepare the VM's files for its user, run :mod:`launcher.io.jail`, read what it enforced."""

from __future__ import annotations

import contextlib
import os
import select
import time
from binascii import crc32
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from launcher.core.confinement import ESSENTIAL, Confinement
from launcher.core.limits import cpu_list
from launcher.errors import QemuFailed, StateUnusable
from launcher.io import acl
from launcher.io.jail import become
from launcher.io.process import Forked, end, fork, shown_environment, uninterrupted
from launcher.io.statedir import FIRST_UID, VmDir
from policy.errors import CvmError
from policy.named import NamedTuple
from policy.plain_json import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, NoReturn

    from launcher.io.process import Child

_PATIENCE = 30.0
_MODES = {"read": 4, "write": 6, "device": 6, "socket": 6}
_REGISTRY = ".users"
_PER_ROOT, _ROOTS = 100_000, 2000


Fds = Sequence[tuple[int, int]]
"""(this process's descriptor, the number under which QEMU finds it)."""


class IsolationRefused(CvmError):
    """``mode = "strict"`` and something could not be enforced."""

    code = "isolation.refused"
    exit_status = 4


class Step(NamedTuple):
    """One measure. ``detail``: what exactly, or why the kernel refused."""

    name: str
    enforced: bool
    detail: str


class Jail(NamedTuple):
    """A confinement for one launch. ``uid`` is ``None`` when QEMU keeps the launcher's user, ``why`` says why."""

    wanted: Confinement
    uid: int | None
    why: str


@contextmanager
def jail_for(wanted: Confinement, vm: VmDir) -> Iterator[Jail]:
    """Choose the user and give it the VM's files, until the VM has ended."""
    uid, why = _user(wanted, vm)
    given: list[str] = []
    try:
        if uid is not None:
            try:
                _give(wanted, vm, uid, given)
            except OSError as exc:
                _take_back(vm, uid, given)
                why, uid = f"{exc.filename or vm.path} cannot be given to another user: {exc.strerror}", None
        yield Jail(wanted, uid, why)
    finally:
        _take_back(vm, uid, given)


def start_confined(
    jail: Jail, argv: Sequence[str], env: Mapping[str, str], vm: VmDir, log: IO[bytes], fds: Fds = ()
) -> tuple[Child, tuple[Step, ...]]:
    """QEMU, and what is enforced on it. ``fds``: what it finds open. Raises OSError, :class:`IsolationRefused` and
    :class:`QemuFailed`.
    """
    child: Child | None = None
    try:
        with uninterrupted():
            child, steps = _start(jail, argv, env, vm, log, fds)
    except BaseException:  # an interruption that waited comes here, too
        if child is not None:
            end(child)
        raise
    return child, steps


def _start(
    jail: Jail, argv: Sequence[str], env: Mapping[str, str], vm: VmDir, log: IO[bytes], fds: Fds
) -> tuple[Child, tuple[Step, ...]]:
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        spec, environment = _spec(jail, argv, vm, fds), {**_environment(jail), **env}
        keep = (writing, *(have for have, _ in fds))
        task = _task(spec, environment, writing)
        helper = Forked(fork(task, cwd=vm.path, stderr=log, keep=keep))
        os.close(writing)
        writing = -1
        child, report = _report(reading, helper)
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)
    steps = tuple(Step(str(name), bool(done), str(detail)) for name, done, detail in report["steps"])
    if report["error"]:
        child.wait()
        refused = "; ".join(f"{step.name}: {step.detail}" for step in steps if not step.enforced)
        raise IsolationRefused(f"isolation: {report['error']}: {refused}", hint='[isolation] mode = "auto" starts it')
    return child, steps


def statement(steps: Sequence[Step], what: str = "QEMU") -> list[str]:
    """What is enforced on ``what``, and what is not and why, for a person."""
    done = ", ".join(step.name for step in steps if step.enforced)
    lines = [f"isolation of {what}: {done or 'nothing'}"]
    return lines + [
        f"isolation of {what}: NOT enforced: {step.name}: {step.detail}" for step in steps if not step.enforced
    ]


def _spec(jail: Jail, argv: Sequence[str], vm: VmDir, fds: Fds) -> dict[str, object]:
    wanted = jail.wanted
    paths = [list(item) for item in wanted.paths] + [[vm.path, "folder"]]
    paths += [list(item) for item in wanted.optional if os.path.exists(item[0])]
    demanded = (*ESSENTIAL, *(("own user",) if os.geteuid() == 0 and wanted.settings.user != "none" else ()))
    net = ("net namespace",) if "net" in wanted.namespaces else ()
    return {
        "confine": wanted.settings.mode != "off",
        "strict": (*demanded, *net) if wanted.settings.mode == "strict" else (),
        "argv": list(argv),
        "folder": vm.path,
        "fds": [list(pair) for pair in fds],
        "namespaces": wanted.namespaces,
        "paths": paths,
        "inside": [[vm.file(name), kind] for name, kind in wanted.files if os.path.exists(vm.file(name))],
        "tcp": wanted.tcp,
        "connect": None if wanted.connect is None else list(wanted.connect),
        "rlimits": {name: value for name, value in wanted.rlimits if name != "NPROC" or jail.uid is not None},
        "uid": jail.uid,
        "why_no_uid": jail.why,
        "groups": _groups(wanted),
        "smt_isolation": wanted.placement.smt_isolation,
        "mems": sorted(cpu_list(wanted.placement.mems)) if wanted.placement.mems else [],
    }


def _environment(jail: Jail) -> Mapping[str, str]:
    return os.environ if jail.wanted.settings.mode == "off" else shown_environment()


def _task(spec: dict[str, object], environment: dict[str, str], channel: int) -> Callable[[], NoReturn]:
    """What the forked child does; it tells :func:`_report` by lines of JSON."""

    def tell(document: dict[str, object]) -> None:
        os.write(channel, dumps(document).encode() + b"\n")

    return lambda: become(spec, environment, tell)


def _report(descriptor: int, helper: Forked) -> tuple[Child, dict[str, Any]]:
    """The process that becomes QEMU, and what it says. Raises QemuFailed; then both processes have ended."""
    document: dict[str, Any] = {}
    whole = _lines(descriptor, document)
    child: Child = helper
    if "child" in document:
        helper.wait()
        child = Forked(document["child"])
    if not whole:
        end(child)
        raise QemuFailed(f"QEMU: its confinement took longer than {_PATIENCE:g} s")
    if "steps" not in document:
        end(child)
        raise QemuFailed("QEMU: the confinement ended before it reported", hint="its words are in qemu.log")
    return child, document


def _lines(descriptor: int, document: dict[str, Any]) -> bool:
    """Two lines in any order when there is a PID namespace; whether all came in time."""
    deadline, data, whole = time.monotonic() + _PATIENCE, b"", False
    while not whole and select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
        piece = os.read(descriptor, 1 << 16)
        data += piece
        whole = not piece  # every writer has closed it: exec, or the end
    for line in data.splitlines():
        document.update(loads(line))
    return whole


# The VM's own user ---------------------------------------------------------------------------------------------------


def _user(wanted: Confinement, vm: VmDir) -> tuple[int | None, str]:
    chosen = wanted.settings.user
    if wanted.settings.mode == "off" or chosen == "none":
        return None, "the VM file says so"
    if os.geteuid() != 0:
        return None, "only root can start a process as another user"
    return (chosen, "") if isinstance(chosen, int) else (allocate(vm), "")


def allocate(vm: VmDir) -> int:
    """This VM's number, the same at every launch and no other VM's of this state root. The caller is root."""
    import fcntl

    root = os.path.dirname(vm.path)
    descriptor = os.open(f"{root}/{_REGISTRY}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        known = file.read().split()
        if vm.name not in known:
            file.write(f"{vm.name}\n")
            known.append(vm.name)
    return FIRST_UID + crc32(os.fsencode(root)) % _ROOTS * _PER_ROOT + known.index(vm.name) % _PER_ROOT


def _give(wanted: Confinement, vm: VmDir, uid: int, given: list[str]) -> None:
    """The folder's sticky bit lets it make sockets there, and remove nothing that is not its own."""
    os.chown(vm.path, -1, uid)
    os.chmod(vm.path, 0o1770)  # noqa: S103  the group is this VM's own, with nobody in it
    kinds = dict(wanted.files)
    for name in os.listdir(vm.path):
        path = vm.file(name)
        kind = "socket" if name.endswith(".sock") else kinds.get(name)
        if kind is not None and os.path.islink(path):
            raise StateUnusable(f"{path}: is a link, and cvm makes none here", hint="cvm stop --forget")
        if kind == "state":
            os.chown(path, uid, -1)  # and so it stays: the number is this VM's at every launch
        elif kind is not None:
            os.chown(path, -1, uid)
            os.chmod(path, 0o600 | _MODES[kind] << 3)
    for path, kind in (*wanted.paths, *wanted.optional):
        if kind in _MODES and os.path.exists(path) and not _may(path, _MODES[kind], wanted):
            acl.grant(path, uid, _MODES[kind])
            given.append(path)


def _may(path: str, permissions: int, wanted: Confinement) -> bool:
    """Whether everybody may, or the group of a device that QEMU is in."""
    found = os.stat(path)
    if found.st_mode & permissions == permissions:
        return True
    return found.st_mode >> 3 & permissions == permissions and found.st_gid in _groups(wanted)


def _groups(wanted: Confinement) -> list[int]:
    """Groups of the devices it uses, never root's."""
    devices = [path for path, kind in (*wanted.paths, *wanted.optional) if kind == "device" and os.path.exists(path)]
    return sorted({os.stat(path).st_gid for path in devices} - {0})


def _take_back(vm: VmDir, uid: int | None, given: Sequence[str]) -> None:
    for path in given:
        if uid is not None:
            with contextlib.suppress(OSError):
                acl.revoke(path, uid)
    if uid is not None:
        with contextlib.suppress(OSError):
            os.chmod(vm.path, 0o700)
            os.chown(vm.path, -1, os.getegid())
