"""Read the host's topology from ``/sys``.

Source: Linux ``Documentation/ABI/stable/sysfs-devices-system-cpu`` and ``sysfs-devices-node``.
``root`` stands for ``/`` in tests. What is missing is taken for the simplest: one node, one cache, a core each.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from launcher.core.limits import cpu_list
from launcher.core.topology import HostCpu, HostNode, HostTopology

_NODE = re.compile(r"node([0-9]{1,4})")


def read_topology(root: Path = Path("/"), allowed: frozenset[int] | None = None) -> HostTopology:
    """Processors this process may run on (``allowed``), and the nodes that have memory."""
    usable = frozenset(os.sched_getaffinity(0)) if allowed is None else allowed
    online = _numbers(root / "sys/devices/system/cpu/online")
    nodes, node_of = _nodes(root)
    cpus = [_cpu(root, number, node_of.get(number, 0)) for number in sorted((online & usable) if online else usable)]
    return HostTopology(tuple(cpus), nodes or (HostNode(0, None),))


def _nodes(root: Path) -> tuple[tuple[HostNode, ...], dict[int, int]]:
    found: list[HostNode] = []
    node_of: dict[int, int] = {}
    folder = root / "sys/devices/system/node"
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = _NODE.fullmatch(entry.name)
        if match is None:
            continue
        number = int(match[1])
        node_of.update(dict.fromkeys(_numbers(entry / "cpulist"), number))
        found.append(HostNode(number, _free(entry / "meminfo")))
    return tuple(sorted(found)), node_of


def _free(path: Path) -> int | None:
    """``Node 0 MemFree: 123 kB``; page cache that could be dropped counts too."""
    values = {}
    for line in _text(path).splitlines():
        words = line.split()
        if len(words) >= 4 and words[3].isdigit():
            values[words[2]] = int(words[3]) << 10
    return values["MemFree:"] + values.get("Inactive(file):", 0) if "MemFree:" in values else None


def _cpu(root: Path, number: int, node: int) -> HostCpu:
    folder = root / f"sys/devices/system/cpu/cpu{number}"
    siblings = _text(folder / "topology/thread_siblings_list") or str(number)
    return HostCpu(number, node, siblings, _last_cache(folder / "cache") or f"node {node}")


def _last_cache(folder: Path) -> str:
    """The list of processors that share the cache of the highest level."""
    best = (0, "")
    for entry in folder.glob("index*"):
        level = _text(entry / "level")
        if level.isdigit() and _text(entry / "type") != "Instruction":
            best = max(best, (int(level), _text(entry / "shared_cpu_list")))
    return best[1]


def _numbers(path: Path) -> frozenset[int]:
    try:
        return cpu_list(_text(path))
    except ValueError:
        return frozenset()


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace").strip()
    except OSError:
        return ""
