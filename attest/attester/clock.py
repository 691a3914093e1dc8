"""The time, from the service's proofs: the clock of a guest is the host's, who may set it to any day it likes.

A guest that pins the service's key asks for one challenge over TLS without looking at the certificate's dates, which
nobody could judge yet; who answers is known by the pinned key all the same. The signed time sets the clock. From then
on certificates are checked with their dates.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from attest.attester.errors import ServiceUntrusted
from attest.attester.https import Transport
from attest.attester.kbs import KbsClient
from attest.attester.proof import ProvenTransport

TOLERANCE_SECONDS = 5.0
EARLIEST = 1_767_225_600
"""2026-01-01: no service says less."""


def learn_time(
    transport: Transport,
    pins: tuple[str, ...],
    tee: str,
    *,
    now: Callable[[], float] = time.time,
    set_clock: Callable[[float], None] = lambda seconds: time.clock_settime(time.CLOCK_REALTIME, seconds),
) -> float:
    """Set the clock where it is off by more than five seconds; returns by how much it was, seconds (slow: positive).

    Raises ServiceUntrusted, ServiceUnavailable and what else an exchange can raise.
    """
    told: list[int] = []
    KbsClient(ProvenTransport(transport, pins, tell_time=told.append)).challenge(tee)
    if not told or told[0] < EARLIEST:
        raise ServiceUntrusted(f"proof: time {told[:1]} is before this program was written")
    off = told[0] - now()
    if abs(off) > TOLERANCE_SECONDS:
        try:
            set_clock(float(told[0]))
        except OSError as exc:
            raise ServiceUntrusted(f"clock: off by {off:.0f} s and cannot be set: {exc.strerror}") from None
    return off
