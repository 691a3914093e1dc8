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
    """``report`` is ``None`` when the evidence did not parse; ``found`` then says why.

    ``crl_too_old``: the operator's bound on a list's age counted against the guest. ``not_fetched``: why collateral
    that was asked for did not come.
    """

    request: AttestRequest
    bound: Bound
    rules: Rules
    now: datetime
    found: Found
    report: SnpReport | None = None
    endorsements: EndorsementSet = field(default_factory=EndorsementSet)
    crl_too_old: bool = False
    not_fetched: tuple[str, ...] = ()
