"""Signs of noisy neighbours: how long a VM's threads waited for a processor, and its cgroup's pressure (PSI).

Sources: Linux ``Documentation/accounting/psi.rst``; ``Documentation/scheduler/sched-stats.rst``, /proc/PID/schedstat.
Light: on the path of ``cvm ps``.
"""

from __future__ import annotations

import os

_RESOURCES = ("cpu", "memory", "io")


def pressure(pid: int, root: str = "/") -> dict[str, float | None]:
    """``waited``: percent of the runnable time of all its threads spent waiting for a processor (the guest's steal);
    ``cpu``, ``memory``, ``io``: PSI "some", average of 10 s, percent, ``None`` where its cgroup has none.
    """
    found: dict[str, float | None] = {"waited": _waited(pid, root)}
    folder = _group(pid, root)
    for name in _RESOURCES:
        found[name] = None if folder is None else _some(f"{folder}/{name}.pressure")
    return found


def _waited(pid: int, root: str) -> float | None:
    ran = waited = 0
    try:
        for thread in os.listdir(f"{root}/proc/{pid}/task"):
            fields = _read(f"{root}/proc/{pid}/task/{thread}/schedstat").split()
            if len(fields) >= 2:
                ran, waited = ran + int(fields[0]), waited + int(fields[1])
    except (OSError, ValueError):
        return None
    return round(100 * waited / (ran + waited), 1) if ran + waited else None


def _group(pid: int, root: str) -> str | None:
    for line in _read(f"{root}/proc/{pid}/cgroup").splitlines():
        if line.startswith("0::/") and len(line) > 4 and ".." not in line:
            return f"{root}/sys/fs/cgroup/{line[4:]}"
    return None


def _some(path: str) -> float | None:
    for field in _read(path).partition("\n")[0].split():
        name, _, value = field.partition("=")
        if name == "avg10":
            try:
                return float(value)
            except ValueError:
                return None
    return None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123  pathlib costs start-up time
            return file.read(1 << 16)
    except OSError:
        return ""
