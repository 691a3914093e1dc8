"""Put a running QEMU under its limits: through systemd where it is PID 1, else into a cgroup of our own making.

Whatever cannot be set is told, with the kernel's reason; a limit that was asked for is never silently missing.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Sequence

from launcher.core.limits import UNKNOWN_TO_SYSTEMD, Setting, scope_call
from launcher.io.sysfs import read_text, write_text
from policy.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.io.sysfs import AnyPath

_BRANCH = "cvm"
Runner = Callable[[Sequence[str]], str]
"""Runs a command; an empty string when it worked, else its words."""


class Placed(NamedTuple):
    """``folder``: the cgroup, ``None`` when there is none. ``enforced``: files set; ``refused``: (file, reason)."""

    folder: str | None
    enforced: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]


def place(name: str, pid: int, wanted: tuple[Setting, ...], root: AnyPath = "/", run: Runner | None = None) -> Placed:
    """Limit process ``pid`` of VM ``name``. ``root`` stands for ``/`` in tests, ``run`` for the call of busctl."""
    if not wanted:
        return Placed(None, (), ())
    if not os.path.exists(f"{root}/sys/fs/cgroup/cgroup.controllers"):
        return _nothing(wanted, "no cgroup v2 at /sys/fs/cgroup")
    if read_text(f"{root}/proc/1/comm") == "systemd":
        return _scope(name, pid, wanted, root, run or _run)
    return _own(name, pid, wanted, f"{root}/sys/fs/cgroup")


def release(placed: Placed) -> None:
    """Remove a cgroup that has no process any more; systemd removes its scopes itself."""
    if placed.folder is not None and placed.folder.split("/")[-2] == _BRANCH:
        with contextlib.suppress(OSError):
            os.rmdir(placed.folder)


def statement(placed: Placed) -> list[str]:
    """For a person: what is limited, and what is not."""
    lines = [f"limits: {', '.join(placed.enforced)}"] if placed.enforced else []
    return lines + [f"limits: NOT enforced: {file}: {why}" for file, why in placed.refused]


def _nothing(wanted: tuple[Setting, ...], why: str) -> Placed:
    return Placed(None, (), tuple((item.file, why) for item in wanted))


def _own(name: str, pid: int, wanted: tuple[Setting, ...], top: str) -> Placed:
    branch = f"{top}/{_BRANCH}"
    leaf = f"{branch}/{name}"
    try:
        os.makedirs(leaf, exist_ok=True)
        for folder in (top, branch):
            for controller in dict.fromkeys(item.controller for item in wanted):
                with contextlib.suppress(OSError):  # whether it worked is seen in the leaf
                    write_text(f"{folder}/cgroup.subtree_control", f"+{controller}")
        placed = _set(leaf, wanted)
        write_text(f"{leaf}/cgroup.procs", str(pid))
    except OSError as exc:
        return _nothing(wanted, f"{exc.filename}: {exc.strerror}")
    return placed


def _set(leaf: str, wanted: tuple[Setting, ...]) -> Placed:
    present = read_text(f"{leaf}/cgroup.controllers").split()
    enforced, refused = [], []
    for item in wanted:
        try:
            if item.controller not in present:
                raise OSError(0, f"controller {item.controller} is not delegated")
            write_text(f"{leaf}/{item.file}", _line(item))
            enforced.append(item.file)
        except OSError as exc:
            refused.append((item.file, str(exc.strerror)))
    return Placed(leaf, tuple(enforced), tuple(refused))


def _line(item: Setting) -> str:
    """The value, after the number of the block device it is about. Raises OSError."""
    if item.device is None:
        return item.value
    found = os.stat(item.device)
    if not stat.S_ISBLK(found.st_mode):
        raise OSError(0, f"{item.device} is not a block device")
    return f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)} {item.value}"


def _scope(name: str, pid: int, wanted: tuple[Setting, ...], root: AnyPath, run: Runner) -> Placed:
    words = run(scope_call(name, pid, wanted))
    if words:
        return _nothing(wanted, f"systemd: {words}")
    folder = group_of(pid, root)
    if folder is None:
        return _nothing(wanted, f"systemd made the scope, but /proc/{pid}/cgroup does not show it")
    enforced: list[str] = []
    refused: list[tuple[str, str]] = []
    for item in wanted:  # what systemd was told is only a claim: the files are the truth
        if item.file in UNKNOWN_TO_SYSTEMD:
            one = _set(folder, (item,))
            enforced += one.enforced
            refused += one.refused
        elif os.path.exists(f"{folder}/{item.file}"):
            enforced.append(item.file)
        else:
            refused.append((item.file, f"controller {item.controller} is not delegated"))
    return Placed(folder, tuple(enforced), tuple(refused))


def group_of(pid: int, root: AnyPath = "/") -> str | None:
    """The cgroup v2 folder of a process."""
    for line in read_text(f"{root}/proc/{pid}/cgroup").splitlines():
        if line.startswith("0::/") and ".." not in line:
            return f"{root}/sys/fs/cgroup/{line[4:]}"
    return None


def _run(argv: Sequence[str]) -> str:
    import subprocess

    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as exc:
        return str(exc)
    return "" if done.returncode == 0 else (done.stderr.strip() or f"status {done.returncode}")
