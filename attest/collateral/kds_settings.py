"""How AMD's key distribution service is asked. Apart from the client, so that whoever asks nobody loads no HTTP."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from attest.collateral.limits import Timeouts
from attest.collateral.url import KDS_URL

VCEK_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class KdsSettings:
    """Where to ask and how: seconds between two VCEKs, tries for one thing, seconds to wait for our own turn."""

    url: str = KDS_URL
    timeouts: Timeouts = field(default_factory=Timeouts)
    vcek_seconds: float = VCEK_SECONDS
    tries: int = 4
    turn_wait: float = math.inf
