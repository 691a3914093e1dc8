"""How Intel's service and caches of it are asked. Apart from the client, so that whoever asks nobody loads no HTTP."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from attest.collateral.intel_wanted import STANDARD, Channel
from attest.collateral.limits import Timeouts, Tls
from attest.collateral.url import PCS_URL

INTEL_ROOT_CRL_URL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
"""The distribution point named in Intel's root certificate."""


@dataclass(frozen=True, slots=True)
class PcsSettings:
    """``urls`` are asked in order: the next one only when one has nothing usable.

    ``root_crl_url`` is where Intel's root list is when no PCCS gives it; empty asks only the services in ``urls``.
    ``tls`` counts for all but Intel's own. ``seconds`` lie between requests, ``tries`` are for one thing and service.
    """

    urls: tuple[str, ...] = (PCS_URL,)
    root_crl_url: str = INTEL_ROOT_CRL_URL
    channel: Channel = STANDARD
    tls: Tls = field(default_factory=Tls)
    timeouts: Timeouts = field(default_factory=Timeouts)
    seconds: float = 0.25
    tries: int = 3
    turn_wait: float = math.inf
