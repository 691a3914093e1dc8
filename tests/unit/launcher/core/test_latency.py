"""Latency histograms: quantiles are upper bounds, differences are between two looks, what is not ours is refused."""

from __future__ import annotations

import pytest

from launcher.core.latency import BOUNDARIES, Latency, latencies, quantile, shown, since
from launcher.errors import QmpMalformed

EMPTY = (0,) * (len(BOUNDARIES) + 1)


def bins(**counts: int) -> tuple[int, ...]:
    """``at_3=5``: five requests in bin 3."""
    return tuple(counts.get(f"at_{number}", 0) for number in range(len(EMPTY)))


def test_boundaries_go_up_from_ten_microseconds_to_five_seconds() -> None:
    assert BOUNDARIES[0] == 10_000 and BOUNDARIES[-1] == 5_000_000_000
    assert list(BOUNDARIES) == sorted(set(BOUNDARIES))


@pytest.mark.parametrize(
    ("share", "found"), [(0.5, BOUNDARIES[3]), (0.9, BOUNDARIES[3]), (0.91, BOUNDARIES[7]), (1.0, BOUNDARIES[7])]
)
def test_a_quantile_is_the_upper_boundary_of_the_bin_that_completes_the_share(share: float, found: int) -> None:
    assert quantile(bins(at_3=90, at_7=10), share) == found


def test_requests_beyond_the_last_boundary_are_said_to_be_beyond_it() -> None:
    assert quantile((*EMPTY[:-1], 1), 0.5) == -1
    assert quantile(EMPTY, 0.5) is None


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(None, "-"), (-1, "> 5 s"), (20_000, "≤ 20 us"), (2_000_000, "≤ 2 ms"), (5_000_000_000, "≤ 5 s")],
)
def test_times_are_shown_with_their_unit(nanoseconds: int | None, text: str) -> None:
    assert shown(nanoseconds) == text


def test_only_what_came_between_two_looks_counts_and_a_new_start_counts_from_nothing() -> None:
    before, after = Latency(5, 100, bins(at_1=5)), Latency(8, 250, bins(at_1=6, at_2=2))
    assert since(before, after) == Latency(3, 150, bins(at_1=1, at_2=2))
    assert since(None, after) == after
    assert since(after, before) == before


def test_a_histogram_with_other_boundaries_is_refused() -> None:
    ours = {"boundaries": list(BOUNDARIES), "bins": list(EMPTY)}
    stats = {
        f"{kind}_{name}": value
        for kind in ("rd", "wr", "flush")
        for name, value in (("latency_histogram", ours), ("operations", 0), ("total_time_ns", 0))
    }
    assert set(latencies(stats)) == {"read", "write", "flush"}
    for wrong in ({"boundaries": [1], "bins": [0, 0]}, {"boundaries": list(BOUNDARIES), "bins": [0]}, {}):
        with pytest.raises(QmpMalformed, match="write latency"):
            latencies(stats | {"wr_latency_histogram": wrong})
