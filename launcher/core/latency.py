"""Latency of a disk's requests as QEMU counts it: histograms, what changed between two looks, and quantiles.

Source: QAPI ``block-core.json``, BlockLatencyHistogramInfo: N boundaries in nanoseconds make N + 1 bins; a request
falls into the bin whose lower boundary it has reached.
"""

from __future__ import annotations

from collections.abc import Sequence

from launcher.errors import QmpMalformed
from policy.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BOUNDARIES: tuple[int, ...] = tuple(step * int(10**power) for power in range(4, 10) for step in (1, 2, 5))
"""Nanoseconds, 10 us to 5 s."""
OPERATIONS = (("read", "rd"), ("write", "wr"), ("flush", "flush"))


class Latency(NamedTuple):
    """One kind of request of one disk since the VM's start: how many, nanoseconds they took together, and of those
    since somebody first looked how many in which bin.
    """

    requests: int
    nanoseconds: int
    bins: tuple[int, ...]


def latencies(stats: dict[str, Any]) -> dict[str, Latency]:
    """By kind, out of QEMU's ``BlockDeviceStats``. Raises `QmpMalformed` for histograms that are not ours."""
    found = {}
    for name, short in OPERATIONS:
        histogram = stats.get(f"{short}_latency_histogram", {})
        bins = tuple(histogram.get("bins", ()))
        if tuple(histogram.get("boundaries", ())) != BOUNDARIES or len(bins) != len(BOUNDARIES) + 1:
            raise QmpMalformed(f"QMP: {name} latency: {len(bins)} bins, want {len(BOUNDARIES) + 1} over our boundaries")
        found[name] = Latency(int(stats[f"{short}_operations"]), int(stats[f"{short}_total_time_ns"]), bins)
    return found


def since(before: Latency | None, after: Latency) -> Latency:
    """What came between two looks; everything where there was none before, or the VM started anew."""
    if before is None or before.requests > after.requests or len(before.bins) != len(after.bins):
        return after
    bins = tuple(max(0, new - old) for old, new in zip(before.bins, after.bins, strict=True))
    return Latency(after.requests - before.requests, max(0, after.nanoseconds - before.nanoseconds), bins)


def quantile(bins: Sequence[int], share: float) -> int | None:
    """Nanoseconds within which ``share`` (0 to 1) of the requests ended: the upper boundary of the bin that holds the
    last of them. ``None`` without requests; -1 where that is beyond the last boundary.
    """
    total = sum(bins)
    if not total:
        return None
    seen = 0
    for number, count in enumerate(bins[:-1]):
        seen += count
        if seen >= share * total:
            return BOUNDARIES[number]
    return -1


def shown(nanoseconds: int | None) -> str:
    """``≤ 2 ms``"""
    if nanoseconds is None:
        return "-"
    if nanoseconds < 0:
        return f"> {BOUNDARIES[-1] // 10**9} s"
    for unit, size in (("s", 10**9), ("ms", 10**6)):
        if nanoseconds >= size:
            return f"≤ {nanoseconds // size} {unit}"
    return f"≤ {nanoseconds // 1000} us"
