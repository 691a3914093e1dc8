"""Limits of a VM's interface, kept by the host's kernel: a token bucket on what leaves the interface, and a second one
on what comes in from it, for which the frames take the way round an ``ifb`` device (an interface that only queues).

Queued, not policed: a frame too many waits up to 50 ms, then it is dropped, so TCP reaches the limit.
Sources: tc-tbf(8), tc-u32(8), tc-mirred(8).
"""

from __future__ import annotations

import contextlib

from launcher.core.network import Rate
from launcher.io.iproute import NetworkRefused, run_ip, run_tool


def limit(name: str, helper: str, *, out: Rate | None, back: Rate | None) -> None:
    """``out``: of what the host sends into ``name``; ``back``: of what comes from it, through ``helper``, which is made
    when it is needed. Raises :class:`NetworkRefused`.
    """
    clear(name, helper)
    if out is not None:
        _bucket(name, out)
    if back is not None:
        _tc("qdisc", "add", "dev", name, "handle", "ffff:", "ingress")
        run_ip("link", "add", helper, "type", "ifb")
        run_ip("link", "set", "dev", helper, "up")
        _bucket(helper, back)
        everything = ("protocol", "all", "prio", "1", "u32", "match", "u32", "0", "0")
        _tc("filter", "add", "dev", name, "parent", "ffff:", *everything,
            "action", "mirred", "egress", "redirect", "dev", helper)  # fmt: skip


def change(name: str, helper: str, *, out: Rate | None, back: Rate | None) -> None:
    """Other limits while the VM runs; ``None`` leaves that direction as it is. No frame is lost."""
    for device, rate in ((name, out), (helper, back)):
        if rate is not None:
            _tc("qdisc", "change", "dev", device, "root", *_words(rate))


def clear(name: str, helper: str) -> None:
    """No limits any more; there need not have been any."""
    for words in (("root",), ("ingress",)):
        with contextlib.suppress(NetworkRefused):
            _tc("qdisc", "del", "dev", name, *words)
    with contextlib.suppress(NetworkRefused):
        run_ip("link", "del", "dev", helper)


def _bucket(device: str, rate: Rate) -> None:
    _tc("qdisc", "add", "dev", device, "root", *_words(rate))


def _words(rate: Rate) -> tuple[str, ...]:
    return ("tbf", "rate", f"{rate.bits}bit", "burst", f"{rate.burst}b", "latency", "50ms")


def _tc(*words: str) -> None:
    run_tool("tc", words)
