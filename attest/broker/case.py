"""One attestation in progress: what was asked, what was presented, by which rules and at what time it is judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from attest.broker.appraise import Bound, Found
from attest.broker.protocol import AttestRequest
from attest.broker.rules import Rules
from attest.endorsement.pool import EndorsementSet
from attest.evidence.snp_report import SnpReport


@dataclass(frozen=True, slots=True)
class Case:
    """``report`` is ``None`` when the evidence did not parse; ``found`` then says why."""

    request: AttestRequest
    bound: Bound
    rules: Rules
    now: datetime
    found: Found
    report: SnpReport | None = None
    endorsements: EndorsementSet = field(default_factory=EndorsementSet)
