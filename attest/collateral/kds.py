"""Asking AMD's key distribution service, patiently but not for ever.

Tried again, with growing pauses and jitter: no connection, no complete answer, 429 and 5xx. A ``Retry-After`` is obeyed
and told to every process that shares the cache folder. Not tried again: 404 (explained), redirects, other statuses. All
of it fits into the caller's budget; when the next try would not, the error says when to come back.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NoReturn

from attest.collateral.clock import Budget, Clock
from attest.collateral.errors import CollateralNotFound, CollateralPaced, CollateralUnavailable
from attest.collateral.kds_settings import KdsSettings
from attest.collateral.pace import MAX_HOLD, Pace
from attest.collateral.transport import Answer, get
from attest.collateral.wanted import Kind, Wanted

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 20.0
_OUTAGE_HOLD = 30.0
_TOO_MANY, _NOT_FOUND, _OK = 429, 404, 200


class KdsClient:
    """``fetch`` returns an answer's bytes, unverified. One instance serves any number of threads."""

    def __init__(self, settings: KdsSettings, folder: Path, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._pace = Pace(folder, clock, vcek_seconds=settings.vcek_seconds)

    def fetch(self, wanted: Wanted, budget: Budget) -> bytes:
        """Raises :class:`CollateralUnavailable` or one of its kinds."""
        number, again = 0, None
        while True:
            self._wait_for_turn(wanted, again, number, budget)
            try:
                return self._ask(wanted, budget)
            except _Again as exc:
                number, again = number + 1, exc
                self._pause(wanted, again, number, budget)

    def _wait_for_turn(self, wanted: Wanted, again: _Again | None, number: int, budget: Budget) -> None:
        """Our own limit; where it leaves no time for another try, what went wrong in the last one is the error."""
        within = min(budget.left, self._settings.turn_wait)
        try:
            self._clock.sleep(self._pace.reserve(vcek=wanted.kind is Kind.VCEK, within=within))
        except CollateralPaced as exc:
            if again is None:
                raise
            self._give_up(wanted, again, number, max(exc.retry_after or 0.0, _OUTAGE_HOLD))

    def _ask(self, wanted: Wanted, budget: Budget) -> bytes:
        """One exchange. Raises :class:`_Again` for what may be gone in a moment."""
        settings = self._settings
        url = settings.url + wanted.path
        try:
            answer = get(url, max_body=wanted.max_body, timeouts=settings.timeouts, seconds=budget.left)
        except CollateralUnavailable as exc:
            if type(exc) is not CollateralUnavailable:
                raise
            raise _Again(exc.message, None) from None
        if answer.status == _OK:
            return answer.body
        if answer.status == _NOT_FOUND:
            raise _not_found(wanted)
        if answer.status == _TOO_MANY or answer.status >= 500:
            raise _Again(f"answered {answer.status}", self._retry_after(answer))
        raise CollateralUnavailable(f"{wanted}: AMD's key service answered {answer.status}")

    def _pause(self, wanted: Wanted, again: _Again, number: int, budget: Budget) -> None:
        """Wait after try ``number``, or give up and let everybody wait."""
        stated, clock = again.retry_after, self._clock
        if stated is None:
            seconds = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (number - 1)) * (0.5 + clock.random() / 2)
        else:
            seconds = stated + clock.random()
            self._pace.hold(stated)
        if number < self._settings.tries and seconds < budget.left:
            clock.sleep(seconds)
            return
        self._give_up(wanted, again, number, seconds if stated is not None else max(seconds, _OUTAGE_HOLD))

    def _give_up(self, wanted: Wanted, again: _Again, number: int, later: float) -> NoReturn:
        self._pace.hold(later)
        raise CollateralUnavailable(
            f"{wanted}: AMD's key service {again.reason}; tried {number} time{'' if number == 1 else 's'}",
            code="collateral.rate-limited" if again.reason.endswith(str(_TOO_MANY)) else None,
            hint=f"try again in {later:.0f} s",
            retry_after=later,
        )

    def _retry_after(self, answer: Answer) -> float | None:
        """Seconds from the header's number or date (RFC 9110, section 10.2.3), at most an hour."""
        text = (answer.retry_after or "").strip()
        if text.isascii() and text.isdigit() and len(text) < 10:
            return min(float(text), MAX_HOLD)
        try:
            then = parsedate_to_datetime(text)
        except (ValueError, TypeError):
            return None
        then = then if then.tzinfo else then.replace(tzinfo=UTC)
        seconds = (then - datetime.fromtimestamp(self._clock.wall(), UTC)).total_seconds()
        return min(max(seconds, 0.0), MAX_HOLD)


class _Again(Exception):
    """A failure that may be gone in a moment."""

    def __init__(self, reason: str, retry_after: float | None) -> None:
        super().__init__(reason)
        self.reason, self.retry_after = reason, retry_after


def _not_found(wanted: Wanted) -> CollateralNotFound:
    if wanted.hwid is None or wanted.tcb is None:
        return CollateralNotFound(f"{wanted}: not found (404)", hint="is the service's URL right?")
    return CollateralNotFound(
        f"{wanted}: not found (404): AMD issued no key for hwID {wanted.hwid.hex()} ({len(wanted.hwid)} bytes) of "
        f"product {wanted.product.value} at {wanted.tcb}",
        hint="the TCB must be REPORTED_TCB (not the current one), the product that of the chip (Bergamo and Siena are "
        "Genoa), the chip id not masked, and on Turin its first 8 bytes only",
    )
