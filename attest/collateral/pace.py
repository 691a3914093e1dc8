"""How fast we ask a service, agreed among all processes that share a cache folder.

AMD answers about one VCEK per ten seconds and address, then says 429. One small file for each service holds two times
under a lock (seconds since the epoch): the next free turn for what is paced, and until when nothing at all is to be
asked because the service said so or does not answer. A file that makes no sense, or speaks of a far future (a clock
that was set back), counts as empty.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

from attest.collateral.clock import Clock
from attest.collateral.errors import CollateralPaced
from attest.collateral.files import locked, read_bounded, replace

MAX_HOLD = 3600.0
_MAX_BYTES = 200
_LONGEST_HOLD_WAIT = 10.0  # an outage that was waited for once is not waited for again by each who comes later


class Service(NamedTuple):
    """Who is asked, as messages say it; what is paced (``VCEK``, ``thing``); the name of the shared file."""

    name: str
    paced: str
    file: str = "pace"


class Pace:
    """The shared file of ``service`` in ``folder``; ``seconds`` between two things that are paced.

    Every method is one short critical section.
    """

    def __init__(self, folder: Path, clock: Clock, service: Service, *, seconds: float) -> None:
        self.service = service
        self._path, self._clock, self._interval = folder / service.file, clock, seconds
        self._lock = folder / f"{service.file}.lock"

    def reserve(self, *, slow: bool, within: float) -> float:
        """Seconds to wait before asking; ``slow`` takes a turn. Raises when that is longer than ``within``."""
        with locked(self._lock, self._clock, within):
            now = self._clock.wall()
            slot, hold = self._read(now)
            if hold - now > min(within, _LONGEST_HOLD_WAIT):
                raise CollateralPaced(
                    f"{self.service.name} is not asked for {hold - now:.0f} s more: it said so, or did not answer",
                    code="collateral.held",
                    retry_after=hold - now,
                )
            start = max(now, hold, slot if slow else 0.0)
            if start - now > within:
                raise CollateralPaced(
                    f"{self.service.name} is asked for one {self.service.paced} in {self._interval:.0f} s; the next "
                    f"turn is in {start - now:.0f} s",
                    retry_after=start - now,
                )
            if slow:
                self._write(start + self._interval, hold)
            return start - now

    def hold(self, seconds: float) -> None:
        """Nobody asks anything for ``seconds`` (at most an hour)."""
        with locked(self._lock, self._clock, 1.0):
            now = self._clock.wall()
            slot, hold = self._read(now)
            self._write(slot, max(hold, now + min(seconds, MAX_HOLD)))

    def _read(self, now: float) -> tuple[float, float]:
        words = read_bounded(self._path, _MAX_BYTES).split()
        try:
            slot, hold = (float(word) for word in words)
        except ValueError:
            return 0.0, 0.0
        latest = now + MAX_HOLD + self._interval
        return _sane(slot, latest), _sane(hold, latest)

    def _write(self, slot: float, hold: float) -> None:
        replace(self._path, f"{slot:.3f} {hold:.3f}\n".encode(), durable=False)


def _sane(value: float, latest: float) -> float:
    return value if math.isfinite(value) and 0 <= value <= latest else 0.0
