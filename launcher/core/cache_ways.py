"""Which ways of a processor's last-level cache a VM may fill. The kernel's files are :mod:`launcher.io.resctrl`'s.

Source: Linux ``Documentation/filesystems/resctrl.rst``: a mask of contiguous bits for each cache, ``L3:0=ff00;1=ff00``.
"""

from __future__ import annotations

from collections.abc import Iterable


class WaysMalformed(ValueError):
    """A line of masks that is none."""


def l3_masks(schemata: str) -> dict[str, int]:
    """Mask by cache, of the line ``L3``; empty where there is none. Raises :class:`WaysMalformed`."""
    for line in schemata.splitlines():
        name, _, rest = line.strip().partition(":")
        if name == "L3":
            return dict(_mask(item) for item in rest.split(";"))
    return {}


def _mask(item: str) -> tuple[str, int]:
    cache, _, digits = item.strip().partition("=")
    try:
        return str(int(cache)), int(digits, 16)
    except ValueError:
        raise WaysMalformed(f"{item[:40]!r}: want a cache's number and its mask") from None


def line(caches: Iterable[str], mask: int) -> str:
    """The line that gives ``mask`` to every cache."""
    return "L3:" + ";".join(f"{cache}={mask:x}" for cache in caches) + "\n"


def choose(full: int, used: Iterable[int], ways: int) -> int | None:
    """A run of ``ways`` bits of ``full`` that is in none of ``used``, the highest one; ``None`` when there is none.

    The highest, because the kernel and the BIOS share the lowest ways with devices (DDIO) on many processors.
    """
    taken = 0
    for mask in used:
        taken |= mask
    for low in range(full.bit_length() - ways, -1, -1):
        mask = ((1 << ways) - 1) << low
        if mask & full == mask and not mask & taken:
            return mask
    return None
