"""One attestation in progress: what was asked, what was presented, by which rules and at what time it is judged."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from attest.broker.appraise import Bound, Found
from attest.broker.presented import Presented
from attest.broker.protocol import AttestRequest
from attest.broker.rules import Rules


@dataclass(frozen=True, slots=True)
class Case:
    """``tee`` is the kind the guest announced; ``presented`` is ``None`` when its evidence did not parse as such, and
    ``found`` then says why. ``peer`` is the address the guest's connection came from.
    """

    tee: str
    request: AttestRequest
    bound: Bound
    rules: Rules
    now: datetime
    found: Found
    presented: Presented | None = None
    peer: str | None = None
