"""Partition the last-level cache: a resctrl group for each VM that wants one, with ways no other VM of ours has.

The VM fills those ways only, so it cannot push others out of the rest; the host's own tasks may still use them.
``root`` stands for ``/sys/fs/resctrl`` in tests. Source: Linux ``Documentation/filesystems/resctrl.rst``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

from launcher.core.cache_ways import choose, l3_masks, line
from launcher.io.sysfs import read_text, write_text
from policy.named import NamedTuple

ROOT = "/sys/fs/resctrl"
_PREFIX = "cvm-"
_NOT_THERE = "resctrl is not mounted (mount -t resctrl resctrl /sys/fs/resctrl), or the processor has no L3 allocation"


class Partition(NamedTuple):
    """What a VM got: its ``group`` (a folder, empty without one) and ``mask``, or why not."""

    ways: int
    group: str = ""
    mask: int = 0
    problem: str = ""


def partition(name: str, threads: Iterable[int], ways: int, root: str = ROOT) -> Partition:
    """Give VM ``name``'s threads ``ways`` of every L3; threads they make later follow them."""
    try:
        return _partition(name, threads, ways, root)
    except (OSError, ValueError) as exc:
        said = read_text(f"{root}/info/last_cmd_status")
        why = str(exc.strerror if isinstance(exc, OSError) else exc)
        release(Partition(ways, f"{root}/{_PREFIX}{name}"))
        return Partition(ways, problem=f"{why} ({said})" if said not in ("", "ok") else why)


def _partition(name: str, threads: Iterable[int], ways: int, root: str) -> Partition:
    full = int(read_text(f"{root}/info/L3/cbm_mask") or "0", 16)
    caches = l3_masks(read_text(f"{root}/schemata"))
    if not full or not caches:
        return Partition(ways, problem=_NOT_THERE)
    least = int(read_text(f"{root}/info/L3/min_cbm_bits") or "1")
    if not least <= ways <= full.bit_count():
        most = full.bit_count()
        return Partition(ways, problem=f"this processor's L3 has {most} ways, of which at least {least} go together")
    mask = choose(full, _used(root, name), ways)
    if mask is None:
        return Partition(ways, problem=f"no {ways} ways beside each other are left by other VMs")
    group = f"{root}/{_PREFIX}{name}"
    with suppress(FileExistsError):  # a launcher that was killed left it
        _make(group)
    write_text(f"{group}/schemata", line(caches, mask))
    for thread in threads:
        with suppress(ProcessLookupError):  # it has ended
            write_text(f"{group}/tasks", str(thread))
    return Partition(ways, group, mask)


def _used(root: str, name: str) -> list[int]:
    """Masks of other VMs' groups."""
    found: list[int] = []
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and entry.name != f"{_PREFIX}{name}" and entry.is_dir():
                found += l3_masks(read_text(f"{entry.path}/schemata")).values()
    return found


def release(given: Partition) -> None:
    """Take the group away; what still runs in it falls back to the host's."""
    if given.group:
        with suppress(OSError):
            _remove(given.group)


def _make(group: str) -> None:
    os.mkdir(group)


def _remove(group: str) -> None:
    os.rmdir(group)


def statement(given: Partition) -> str:
    """For a person."""
    if given.problem:
        return f"placement: NOT enforced: {given.ways} ways of L3: {given.problem}"
    return f"placement: {given.ways} ways of every L3 (mask {given.mask:x})"
