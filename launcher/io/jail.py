"""In a forked child (:func:`become`): close the doors one after the other, then become QEMU.

What it is given is made by :mod:`launcher.io.isolation`. What was enforced and what the kernel refused is told before
exec; nothing is assumed. It imports little, and comes back to nobody: the child's copy of the
launcher ends here whatever happens, and exec leaves nothing of it to QEMU.

Order: namespaces, a root with nothing but the VM's files, rlimits, user, capabilities, no_new_privs, Landlock, exec.
Sources: namespaces(7), pivot_root(2), capabilities(7), landlock(7).
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal

from launcher.io.landlock import is_device, landlock
from launcher.io.libc import PR_SET_PDEATHSIG, Refused, checked, libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

# linux/sched.h
_NAMESPACES = {"mount": 0x20000, "uts": 0x4000000, "ipc": 0x8000000, "pid": 0x20000000, "net": 0x40000000}
_NEWUSER, _CLONE_PARENT = 0x10000000, 0x8000
# linux/mount.h
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
_RELATIME = 1 << 21
_DETACH = 2
# linux/prctl.h, and x86_64's numbers of system calls without a wrapper in libc
_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 23, 24, 38, 47
_PR_SCHED_CORE = 62
_SYS_SET_MEMPOLICY = 238
_SYS_CLONE, _SYS_CAPSET, _SYS_PIVOT_ROOT = 56, 126, 155
_CAPABILITY_V3 = 0x20080522

_forking = ctypes.PyDLL(None, use_errno=True)  # keeps the interpreter's lock: the child must own it


class _Report:
    def __init__(self) -> None:
        self.steps: list[list[object]] = []

    def attempt(self, name: str, step: Callable[[], str]) -> bool:
        """Carry out one step and write down how it went."""
        try:
            self.steps.append([name, True, step()])
        except (Refused, OSError, ValueError) as exc:
            self.steps.append([name, False, str(exc)[:200]])  # all lines together stay one atomic write
            return False
        return True

    def skip(self, name: str, why: str) -> None:
        self.steps.append([name, False, why])


# Namespaces ---------------------------------------------------------------------------------------------------------


def _unshare(spec: dict[str, Any], report: _Report) -> set[str]:
    """Enter the wanted namespaces one by one; those entered."""
    if os.geteuid() != 0:
        report.attempt("user namespace", _own_user_namespace)
    entered = set()
    for name in spec["namespaces"]:
        if report.attempt(f"{name} namespace", _entering(_NAMESPACES[name])):
            entered.add(name)
    return entered


def _entering(flag: int) -> Callable[[], str]:
    def enter() -> str:
        checked(libc.unshare(flag), "unshare")
        return ""

    return enter


def _own_user_namespace() -> str:
    uid, gid = os.geteuid(), os.getegid()
    checked(libc.unshare(_NEWUSER), "unshare")
    for file, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{file}", "w") as out:  # noqa: PTH123  pathlib costs start-up time
            out.write(text)
    return "without privileges outside"


def _continue_in_child(tell: Callable[[dict[str, object]], None]) -> None:
    """A PID namespace begins with the next child. CLONE_PARENT makes it the launcher's own child, so the launcher can
    wait for it; this process tells its number, which only the outside knows, and goes away.
    """
    pid = _forking.syscall(_SYS_CLONE, _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
    if pid < 0:
        raise OSError(ctypes.get_errno(), "clone")
    if pid > 0:
        tell({"child": pid})
        os._exit(0)
    os.setsid()


# Processors and memory -----------------------------------------------------------------------------------------------


def _schedule(spec: dict[str, Any], report: _Report) -> None:
    """What exec and every thread inherit; also for a QEMU that is not confined."""
    if spec["smt_isolation"]:
        report.attempt("core scheduling", _own_core_cookie)
    if spec["mems"]:
        report.attempt("memory nodes", lambda: _bind_memory(spec["mems"]))


def _own_core_cookie() -> str:
    """A cookie of its own: no task without it runs beside it on a core (linux/prctl.h, PR_SCHED_CORE_CREATE)."""
    checked(libc.prctl(_PR_SCHED_CORE, 1, 0, 1, 0), "PR_SCHED_CORE (needs CONFIG_SCHED_CORE, and SMT switched on)")
    return "a core is never shared with another process"


def _bind_memory(nodes: list[int]) -> str:
    """MPOL_BIND for every later allocation, also those of guest_memfd, which follow the task's policy."""
    size = max(nodes) // 64 + 1
    mask = (ctypes.c_ulong * size)()
    for node in nodes:
        mask[node // 64] |= 1 << node % 64
    checked(libc.syscall(_SYS_SET_MEMPOLICY, 2, mask, size * 64 + 1), "set_mempolicy")
    return f"from node {', '.join(map(str, nodes))} only"


# A root with nothing but the VM's files -----------------------------------------------------------------------------


def _new_root(spec: dict[str, Any]) -> str:
    """Everything QEMU needs, bound at the same paths into an empty file system, which then becomes the root."""
    _mount("none", "/", "", _REC | _PRIVATE)
    root = "/sys"  # exists everywhere, and nothing QEMU needs is below it
    _mount("cvm", root, "tmpfs", _NOSUID | _NODEV, "mode=0755,size=1m")
    for path, kind in spec["paths"]:
        _bind(root, path, kind)
    _mount("none", root, "", _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV)
    os.chdir(root)
    checked(libc.syscall(_SYS_PIVOT_ROOT, b".", b"."), "pivot_root")
    checked(libc.umount2(b".", _DETACH), "umount2")
    os.chdir("/")
    return f"{len(spec['paths'])} paths; no /proc, no /sys"


def _bind(root: str, path: str, kind: str) -> None:
    target = root + path
    if os.path.lexists(target):
        return  # inside something bound already
    os.makedirs(os.path.dirname(target), 0o755, exist_ok=True)
    if os.path.islink(path) and kind == "tools":
        os.symlink(os.readlink(path), target)
        return
    if os.path.isdir(path):
        os.mkdir(target)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    _mount(path, target, "", _BIND)
    found = os.statvfs(target).f_flag
    flags = found & (_RDONLY | _NOSUID | _NODEV | _NOEXEC | 1024 | 2048) | (_RELATIME if found & 4096 else 0)
    flags |= _NOSUID
    flags |= _RDONLY if kind in ("tools", "read", "shown") else 0
    flags |= 0 if is_device(path) else _NODEV
    flags |= _NOEXEC if kind != "tools" else 0
    _mount("none", target, "", _REMOUNT | _BIND | flags)


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    result = libc.mount(source.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), data.encode())
    checked(result, f"mount {target}")


# The process itself -------------------------------------------------------------------------------------------------


def _limits(spec: dict[str, Any]) -> str:
    for name, value in spec["rlimits"].items():
        number = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(number)[1]
        raised = name == "MEMLOCK" and os.geteuid() == 0
        allowed = value if hard == resource.RLIM_INFINITY or raised else min(value, hard)
        resource.setrlimit(number, (allowed, allowed))
    return ", ".join(f"{name.lower()} {value}" for name, value in spec["rlimits"].items())


def _become(uid: int, groups: list[int]) -> str:
    os.setgroups(groups)
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    return f"uid {uid}"


def _drop_bounding_set() -> str:
    """Capabilities that no later exec can bring back; needs CAP_SETPCAP, so it comes before the user is changed."""
    number = 0
    while libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) >= 0:
        checked(libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0), "prctl")
        number += 1
    return "empty"


def _drop_capabilities() -> str:
    libc.prctl(_PR_CAP_AMBIENT, 4, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_V3, 0)
    checked(libc.syscall(_SYS_CAPSET, header, (ctypes.c_uint32 * 6)()), "capset")
    return "none left"


def _no_new_privileges() -> str:
    checked(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    return ""


# In order -----------------------------------------------------------------------------------------------------------


def _confine(spec: dict[str, Any], report: _Report, entered: set[str]) -> None:
    rooted = "mount" in entered and report.attempt("private root", lambda: _new_root(spec))
    os.chdir(spec["folder"])
    report.attempt("rlimits", lambda: _limits(spec))
    bounded = report.attempt("bounding set", _drop_bounding_set)
    if spec["uid"] is None:
        report.skip("own user", spec["why_no_uid"])
    elif not rooted:
        report.skip("own user", "without a private root its files lie in folders of another user")
    else:
        report.attempt("own user", lambda: _become(spec["uid"], spec["groups"]))
    report.attempt("capabilities", _drop_capabilities)
    if not bounded and os.geteuid() == 0:
        report.skip("capabilities after exec", "the bounding set is not empty and the user is root")
    report.attempt("no_new_privs", _no_new_privileges)
    report.attempt("landlock", lambda: landlock(spec))


def _hand_on(pairs: list[list[int]]) -> None:
    """Descriptors under the numbers QEMU's command line names; copied twice: one's number may be another's place."""
    copies = [os.dup(have) for have, _ in pairs]
    for have, _ in pairs:
        os.set_inheritable(have, False)
    for copy, (_, want) in zip(copies, pairs, strict=True):
        os.dup2(copy, want)


def become(spec: dict[str, Any], environment: dict[str, str], tell: Callable[[dict[str, object]], None]) -> NoReturn:
    """Never returns: exec, or status 126 (a step failed half-way) or 127 (no such program). ``tell`` hands one document
    to the launcher, in one write; of a launcher that died meanwhile SIGPIPE or EPIPE ends this process.
    """
    report = _Report()
    error = ""
    try:
        _schedule(spec, report)
        if spec["confine"]:
            entered = _unshare(spec, report)
            if "pid" in entered:
                _continue_in_child(tell)
            _confine(spec, report, entered)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # changing the user clears it
        refused = [name for name, done, _ in report.steps if not done]
        if spec["strict"] and [name for name in refused if name in spec["strict"]]:
            error = "the kernel refused a step that the VM file demands"
    except OSError as exc:
        error = str(exc)
    tell({"steps": report.steps, "error": error})
    if error:
        os._exit(126)
    _hand_on(spec["fds"])
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and exec would hand that on
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execve(spec["argv"][0], spec["argv"], environment)  # noqa: S606  exactly this program, no shell
    except OSError as exc:
        os.write(2, f"{spec['argv'][0]}: {exc.strerror}\n".encode())
        os._exit(127)
