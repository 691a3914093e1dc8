"""Asking AMD's key distribution service: a 404 is explained, every other status but 200 is an error."""

from __future__ import annotations

from pathlib import Path

from attest.collateral.clock import Budget, Clock
from attest.collateral.errors import CollateralNotFound, CollateralUnavailable
from attest.collateral.kds_settings import KdsSettings
from attest.collateral.pace import Pace, Service
from attest.collateral.patience import Patience
from attest.collateral.transport import Answer, get
from attest.collateral.wanted import Kind, Wanted

_SERVICE = Service("AMD's key service", "VCEK")
_NOT_FOUND, _OK = 404, 200


class KdsClient:
    """``fetch`` returns an answer's bytes, unverified. One instance serves any number of threads."""

    def __init__(self, settings: KdsSettings, folder: Path, clock: Clock) -> None:
        self._settings = settings
        pace = Pace(folder, clock, _SERVICE, seconds=settings.vcek_seconds)
        self._patience = Patience(pace, clock, settings.tries, settings.turn_wait)

    def fetch(self, wanted: Wanted, budget: Budget) -> bytes:
        """Raises :class:`CollateralUnavailable` or one of its kinds."""
        settings = self._settings
        url = settings.url + wanted.path

        def exchange(seconds: float) -> Answer:
            return get(url, max_body=wanted.max_body, timeouts=settings.timeouts, seconds=seconds)

        answer = self._patience.ask(str(wanted), exchange, budget, slow=wanted.kind is Kind.VCEK)
        if answer.status == _OK:
            return answer.body
        if answer.status == _NOT_FOUND:
            raise _not_found(wanted)
        raise CollateralUnavailable(f"{wanted}: {_SERVICE.name} answered {answer.status}")


def _not_found(wanted: Wanted) -> CollateralNotFound:
    if wanted.hwid is None or wanted.tcb is None:
        return CollateralNotFound(f"{wanted}: not found (404)", hint="is the service's URL right?")
    return CollateralNotFound(
        f"{wanted}: not found (404): AMD issued no key for hwID {wanted.hwid.hex()} ({len(wanted.hwid)} bytes) of "
        f"product {wanted.product.value} at {wanted.tcb}",
        hint="the TCB must be REPORTED_TCB (not the current one), the product that of the chip (Bergamo and Siena are "
        "Genoa), the chip id not masked, and on Turin its first 8 bytes only",
    )
