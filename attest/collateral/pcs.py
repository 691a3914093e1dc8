"""Asking Intel's provisioning certification service, or a cache of it: one GET at one place, patiently.

404 and 410 are told apart: an evaluation data number that does not exist (yet), and one that is not served any more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

from attest.collateral.clock import Budget, Clock
from attest.collateral.errors import CollateralGone, CollateralNotFound, CollateralRefused, CollateralUnavailable
from attest.collateral.intel_wanted import IntelKind, IntelWanted
from attest.collateral.limits import Tls
from attest.collateral.pace import Pace, Service
from attest.collateral.patience import Patience
from attest.collateral.pcs_settings import PcsSettings
from attest.collateral.transport import SYSTEM_TLS, Answer, get
from attest.collateral.url import PCS_URL

_OK, _NOT_FOUND, _GONE = 200, 404, 410
_MAX_CHAIN = 32 << 10


class PcsAnswer(NamedTuple):
    """What came, unverified: the body, the PEM chain of its issuer (may be empty), and where from."""

    body: bytes
    chain: bytes
    url: str


class PcsClient:
    """One instance serves any number of threads."""

    def __init__(self, settings: PcsSettings, folder: Path, clock: Clock) -> None:
        self._settings, self._folder, self._clock = settings, folder, clock

    def places(self, wanted: IntelWanted) -> Iterator[str]:
        """The URLs that may have ``wanted``, best first."""
        root = wanted.kind is IntelKind.ROOT_CRL
        for url in self._settings.urls:
            if not root or url != PCS_URL:
                yield url + wanted.path
        if root and self._settings.root_crl_url:
            yield self._settings.root_crl_url

    def fetch(self, wanted: IntelWanted, url: str, budget: Budget) -> PcsAnswer:
        """Raises :class:`CollateralUnavailable` or one of its kinds."""
        settings = self._settings
        service, tls = _service(url), self._tls(url)
        pace = Pace(self._folder, self._clock, service, seconds=settings.seconds)

        def exchange(seconds: float) -> Answer:
            return get(url, max_body=wanted.max_body, timeouts=settings.timeouts, seconds=seconds, tls=tls)

        patience = Patience(pace, self._clock, settings.tries, settings.turn_wait)
        answer = patience.ask(str(wanted), exchange, budget, slow=True)
        if answer.status != _OK:
            raise _refusal(wanted, answer.status, service)
        return PcsAnswer(answer.body, _chain(wanted, answer), url)

    def _tls(self, url: str) -> Tls:
        """Intel's own servers have certificates that everybody can verify."""
        return (
            SYSTEM_TLS
            if url.startswith((PCS_URL + "/", "https://certificates.trustedservices.intel.com/"))
            else self._settings.tls
        )


def _service(url: str) -> Service:
    """Every host is paced and held back on its own."""
    host = urlsplit(url).netloc
    return Service(host, "thing", f"pace-{hashlib.sha256(host.encode()).hexdigest()[:16]}")


def _refusal(wanted: IntelWanted, status: int, service: Service) -> CollateralUnavailable:
    if status == _NOT_FOUND:
        return CollateralNotFound(
            f"{wanted}: {service.name} has none (404)",
            hint="Intel knows no platform of that FMSPC for that TEE, or no evaluation data of that number yet",
        )
    if status == _GONE:
        return CollateralGone(
            f"{wanted}: {service.name} does not serve it any more (410)",
            hint="the evaluation data number is too old: ask for a newer one, or for the standard channel",
        )
    return CollateralUnavailable(f"{wanted}: {service.name} answered {status}")


def _chain(wanted: IntelWanted, answer: Answer) -> bytes:
    """The issuer chain as PEM: the header is URL-encoded. Raises CollateralRefused beyond 32 KiB."""
    for name in wanted.chain_headers:
        text = answer.header(name)
        if len(text) > 3 * _MAX_CHAIN:
            raise CollateralRefused(
                f"{wanted}: header {name} has {len(text)} characters, want at most {3 * _MAX_CHAIN}"
            )
        if text:
            return unquote_to_bytes(text.encode("latin-1", "replace").decode("ascii", "replace"))
    return b""
