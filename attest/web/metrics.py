"""What the service counts, in the text format Prometheus reads (exposition format 0.0.4).

All processes of one replica count into one piece of shared memory: each takes a row of its own, so nobody waits for
anybody, and whoever answers a scrape adds the rows up. A row is held by a record lock, which the kernel frees however
its process ends; the next process carries on in it, so no count is ever lost or goes back.

Labels hold only what stands in this program (listener, route, status, fault) or name what
expires (a file, a reference value, a chip's certificate), never what a client sent: the number of series is bounded,
and no path of a resource leaks.

``fault`` tells apart whose turn it is to act: ``guest`` (the request or the evidence is bad), ``collateral`` and
``storage`` (something we depend on is unavailable), ``overload`` (too many requests), ``service`` (our defect).
``attest_collateral_renewals_total`` counts what the timer asked for, by vendor and outcome.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
import weakref
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

FAULTS = ("guest", "collateral", "storage", "overload", "service")
STATUSES = ("200", "400", "401", "403", "404", "405", "409", "413", "429", "500", "503", "other")
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
NO_ROUTE = "none"
VENDORS, RENEWALS = ("amd", "intel"), ("renewed", "failed")
_ALWAYS = ("attest_failures_total", "attest_collateral_renewals_total")
_HELP = {
    "attest_requests_total": ("counter", "Requests by listener, route and status."),
    "attest_expiry_seconds": ("gauge", "Seconds until something ends, by kind and name; the soonest 200."),
    "attest_failures_total": ("counter", "Requests that failed, by whose fault it was."),
    "attest_request_seconds": ("histogram", "Time from a request's arrival in a worker to its answer."),
    "attest_collateral_renewals_total": ("counter", "Collateral the timer asked for, by vendor and outcome."),
    "attest_check": ("gauge", "1 where a readiness check passes: database, keys, policy, collateral, renewal, log."),
}


class Metrics:
    """Counters of one replica. Make it before the fork; ``processes`` is how many may count at once.

    ``routes`` names the routes of each listener, as their tables write them.
    """

    def __init__(self, routes: Mapping[str, Sequence[str]], processes: int = 8) -> None:
        self._index = {name: number for number, name in enumerate(_series(routes))}
        self._rows = processes
        self._width = len(self._index) * 8
        self._file = os.memfd_create("attest-metrics", os.MFD_CLOEXEC)
        weakref.finalize(self, os.close, self._file)
        os.ftruncate(self._file, self._width * processes)
        self._numbers = memoryview(mmap.mmap(self._file, self._width * processes)).cast("d")
        self._row = (0, -1)
        self._threads = threading.Lock()

    def request(self, listener: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        bucket = bisect_left(BUCKETS, seconds)
        names = _request_series(listener, route, status, bucket)
        self._add(dict(zip(names, (1, seconds, 1), strict=True)))

    def failure(self, fault: str) -> None:
        """Count one failure of that kind."""
        self._add({f'attest_failures_total{{fault="{fault}"}}': 1})

    def renewal(self, vendor: str, outcome: str) -> None:
        """Count one thing that the timer asked for."""
        self._add({f'attest_collateral_renewals_total{{vendor="{vendor}",outcome="{outcome}"}}': 1})

    def text(self, checks: Mapping[str, bool], ends: Sequence[tuple[str, str, float]] = ()) -> str:
        """The exposition: totals of all processes, ``checks`` as they are now, and (kind, name, seconds until its end)
        of what expires.
        """
        width, lines, last = len(self._index), [], ""
        totals = {
            name: sum(self._numbers[row * width + number] for row in range(self._rows))
            for name, number in self._index.items()
        }
        for name, value in _cumulative(totals):
            family = name.partition("{")[0].removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
            if family != last:
                lines += _head(family)
                last = family
            lines.append(f"{name} {value:.9g}")
        lines += _head("attest_check")
        lines += [f'attest_check{{check="{name}"}} {int(passed)}' for name, passed in checks.items()]
        lines += _head("attest_expiry_seconds") if ends else []
        lines += [
            f'attest_expiry_seconds{{kind="{kind}",name="{_label(name)}"}} {seconds:.0f}'
            for kind, name, seconds in ends
        ]
        return "\n".join(lines) + "\n"

    def _add(self, values: Mapping[str, float]) -> None:
        """To every series of those names that there is."""
        with self._threads:
            row = self._own_row() * len(self._index)
            for name, value in values.items():
                number = self._index.get(name)
                if number is not None:
                    self._numbers[row + number] += value

    def _own_row(self) -> int:
        """The row this process holds. With more processes than rows the last row is shared: a count may be lost."""
        pid = os.getpid()
        if self._row[1] != pid:
            self._row = (next(self._free_rows(), self._rows - 1), pid)
        return self._row[0]

    def _free_rows(self) -> Iterator[int]:
        for row in range(self._rows):
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, row)
            except OSError:
                continue
            yield row


@lru_cache(512)
def _request_series(listener: str, route: str, status: int, bucket: int) -> tuple[str, str, str]:
    """The series one answered request counts in: requests, their seconds, and the bucket of that number."""
    where = f'listener="{listener}",route="{route}"'
    shown = str(status) if str(status) in STATUSES else "other"
    most = f"{BUCKETS[bucket]}" if bucket < len(BUCKETS) else "+Inf"
    return (
        f'attest_requests_total{{{where},status="{shown}"}}',
        f"attest_request_seconds_sum{{{where}}}",
        f'attest_request_seconds_bucket{{{where},le="{most}"}}',
    )


def _series(routes: Mapping[str, Sequence[str]]) -> Iterator[str]:
    places = [
        f'listener="{listener}",route="{route}"'
        for listener, names in routes.items()
        for route in (*dict.fromkeys(names), NO_ROUTE)
    ]
    yield from (f'attest_failures_total{{fault="{fault}"}}' for fault in FAULTS)
    renewals = [f'vendor="{vendor}",outcome="{outcome}"' for vendor in VENDORS for outcome in RENEWALS]
    yield from (f"attest_collateral_renewals_total{{{labels}}}" for labels in renewals)
    yield from (f'attest_requests_total{{{place},status="{status}"}}' for place in places for status in STATUSES)
    for place in places:
        yield from (f'attest_request_seconds_bucket{{{place},le="{bound}"}}' for bound in (*BUCKETS, "+Inf"))
        yield f"attest_request_seconds_sum{{{place}}}"


def _cumulative(totals: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    """Failures and renewals always; requests that happened; histograms of used routes, their buckets added up."""
    below = 0.0
    for name, value in totals.items():
        if name.startswith("attest_request_seconds_bucket"):
            below += value
            if totals[_sum_of(name)] > 0:
                yield name, below
        elif name.startswith("attest_request_seconds_sum"):
            if value > 0:
                yield name, value
                yield name.replace("_sum{", "_count{", 1), below
            below = 0.0
        elif value > 0 or name.startswith(_ALWAYS):
            yield name, value


def _sum_of(bucket: str) -> str:
    return bucket.replace("_bucket{", "_sum{", 1).rpartition(",le=")[0] + "}"


def _label(text: str) -> str:
    """Names of things are an operator's or a vendor's, never a guest's; still nothing may end a label early."""
    shown = "".join(char if char.isprintable() else "?" for char in text)
    return shown.replace("\\", "\\\\").replace('"', '\\"')


def _head(family: str) -> list[str]:
    kind, text = _HELP[family]
    return [f"# HELP {family} {text}", f"# TYPE {family} {kind}"]
