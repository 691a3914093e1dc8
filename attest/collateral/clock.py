"""Time as pacing needs it: waiting, and how much waiting is left. What is *judged* by time gets ``now`` passed in."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import SystemRandom


@dataclass(frozen=True, slots=True)
class Clock:
    """Seconds: ``monotonic`` for deadlines of this process, ``wall`` for agreements with others; ``random`` in 0..1."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    random: Callable[[], float] = field(default_factory=lambda: SystemRandom().random)


class Budget:
    """A length of time that several steps share; it starts to run out when it is made."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._end = clock.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self._end - self._clock.monotonic())
