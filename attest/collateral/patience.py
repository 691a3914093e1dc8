"""Asking a service patiently, but not for ever.

Tried again, with growing pauses and jitter: no connection, no complete answer, 429 and 5xx. A ``Retry-After`` is obeyed
and told to every process that shares the cache folder. Every other status is an answer: what it means is the caller's
to say. All of it fits into the caller's budget; when the next try would not, the error says when to come back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NoReturn

from attest.collateral.clock import Budget, Clock
from attest.collateral.errors import CollateralPaced, CollateralUnavailable
from attest.collateral.pace import MAX_HOLD, Pace
from attest.collateral.transport import Answer

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 20.0
_OUTAGE_HOLD = 30.0
_TOO_MANY = 429

Exchange = Callable[[float], Answer]
"""One GET that takes at most so many seconds. Raises CollateralUnavailable when there is no complete answer."""


@dataclass(frozen=True, slots=True)
class Patience:
    """``tries`` for one thing; at most ``turn_wait`` seconds for our own turn. Serves any number of threads."""

    pace: Pace
    clock: Clock
    tries: int
    turn_wait: float

    def ask(self, what: str, exchange: Exchange, budget: Budget, *, slow: bool) -> Answer:
        """An answer whose status is neither 429 nor 5xx; ``what`` begins every message, ``slow`` takes a turn.

        Raises :class:`CollateralUnavailable` or one of its kinds.
        """
        number, again = 0, None
        while True:
            self._wait_for_turn(what, again, number, (budget, slow))
            try:
                return self._once(exchange, budget)
            except _Again as exc:
                number, again = number + 1, exc
                self._pause(what, again, number, budget)

    def _wait_for_turn(self, what: str, again: _Again | None, number: int, how: tuple[Budget, bool]) -> None:
        """Our own limit; where it leaves no time for another try, what went wrong in the last one is the error."""
        budget, slow = how
        within = min(budget.left, self.turn_wait)
        try:
            self.clock.sleep(self.pace.reserve(slow=slow, within=within))
        except CollateralPaced as exc:
            if again is None:
                raise
            self._give_up(what, again, number, max(exc.retry_after or 0.0, _OUTAGE_HOLD))

    def _once(self, exchange: Exchange, budget: Budget) -> Answer:
        """One exchange. Raises :class:`_Again` for what may be gone in a moment."""
        try:
            answer = exchange(budget.left)
        except CollateralUnavailable as exc:
            if type(exc) is not CollateralUnavailable:
                raise
            raise _Again(exc.message.removeprefix(f"{self.pace.service.name}: "), None) from None
        if answer.status == _TOO_MANY or answer.status >= 500:
            raise _Again(f"answered {answer.status}", self._retry_after(answer))
        return answer

    def _pause(self, what: str, again: _Again, number: int, budget: Budget) -> None:
        """Wait after try ``number``, or give up and let everybody wait."""
        stated, clock = again.retry_after, self.clock
        if stated is None:
            seconds = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (number - 1)) * (0.5 + clock.random() / 2)
        else:
            seconds = stated + clock.random()
            self.pace.hold(stated)
        if number < self.tries and seconds < budget.left:
            clock.sleep(seconds)
            return
        self._give_up(what, again, number, seconds if stated is not None else max(seconds, _OUTAGE_HOLD))

    def _give_up(self, what: str, again: _Again, number: int, later: float) -> NoReturn:
        self.pace.hold(later)
        raise CollateralUnavailable(
            f"{what}: {self.pace.service.name} {again.reason}; tried {number} time{'' if number == 1 else 's'}",
            code="collateral.rate-limited" if again.reason.endswith(str(_TOO_MANY)) else None,
            hint=f"try again in {later:.0f} s",
            retry_after=later,
        )

    def _retry_after(self, answer: Answer) -> float | None:
        """Seconds from the header's number or date (RFC 9110, section 10.2.3), at most an hour."""
        text = answer.header("Retry-After").strip()
        if text.isascii() and text.isdigit() and len(text) < 10:
            return min(float(text), MAX_HOLD)
        try:
            then = parsedate_to_datetime(text)
        except (ValueError, TypeError):
            return None
        then = then if then.tzinfo else then.replace(tzinfo=UTC)
        seconds = (then - datetime.fromtimestamp(self.clock.wall(), UTC)).total_seconds()
        return min(max(seconds, 0.0), MAX_HOLD)


class _Again(Exception):
    """A failure that may be gone in a moment."""

    def __init__(self, reason: str, retry_after: float | None) -> None:
        super().__init__(reason)
        self.reason, self.retry_after = reason, retry_after
