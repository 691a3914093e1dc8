"""What was accepted then and would be refused today: the evidence on record, judged by today's rules and collateral.

The collateral on record stays, and what the folder and the cache hold by now comes beside it: a newer list revokes,
newer TCB info moves the level. Nobody is asked over the network. Where today's judgement needs something that is not at
hand (Intel's TCB info ends after thirty days), the answer is ``unavailable``, which is not a refusal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from attest.audit.errors import AuditBroken
from attest.audit.record import DECISION
from attest.broker.appraise import UNAVAILABLE, Found
from attest.broker.collateral import ServiceCollateral
from attest.broker.present_snp import PresentedSnp
from attest.broker.present_tdx import PresentedTd, intel_anchors_of
from attest.broker.presented import Presented
from attest.broker.questions import read_record
from attest.broker.repeat import Instead, decide_again
from attest.broker.rules import Rules
from attest.store import blobs, records
from attest.store.records import Filter
from policy.decide import AFFIRMING
from policy.document import PolicyDocument
from policy.errors import CvmError

_WORDS = 120
"""Letters of what a check wanted or got."""


@dataclass(frozen=True, slots=True)
class NotToday:
    """An accepted decision, and what today's judgement is: ``outcome`` with ``reasons`` (checks or the failed step).

    ``message`` says it in words: what was wanted and found, and which reference values the guest lost since.
    """

    number: int
    time: datetime
    chip: str | None
    measurement: str | None
    vm: str | None
    outcome: str
    reasons: tuple[str, ...]
    message: str


def not_today(
    tx: Connection,
    rules: Rules,
    collateral: ServiceCollateral,
    now: datetime,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Iterator[NotToday]:
    """Every decision that was affirming and is not any more, oldest first. ``rules`` may be others than those in force.

    Raises AuditBroken where a record or its bytes were changed, CollateralUnreadable for the operator's folder.
    """
    wanted = Filter(since=since, until=until, kinds=(DECISION,), outcome=AFFIRMING)
    for stored in records.stream(tx, wanted):
        body = read_record(stored)["body"]
        found = judge_today(tx, body, rules, collateral, now, f"audit record {stored.seq}")
        if found.outcome != AFFIRMING:
            yield NotToday(
                stored.seq,
                stored.time,
                stored.facts.chip,
                stored.facts.measurement,
                stored.facts.vm,
                found.outcome,
                reasons_of(found),
                "; ".join([*_lost(body, rules, now), *_words(found)]),
            )


def judge_today(
    tx: Connection, body: Any, rules: Rules, collateral: ServiceCollateral, now: datetime, what: str
) -> Found:
    """One decision's evidence by ``rules``, with the collateral at hand ``now``."""

    def renew(presented: Presented) -> Presented:
        return _renewed(presented, collateral, rules.document, now)

    def read(digest: bytes) -> bytes | None:
        return blobs.get(tx, digest)

    try:
        return decide_again(read, body, now, what, Instead(rules.document, rules.references, renew))
    except (KeyError, TypeError, ValueError) as exc:
        raise AuditBroken(f"{what}: cannot be decided again: {exc}") from None


def reasons_of(found: Found) -> tuple[str, ...]:
    """The failed checks, or the code of the failure."""
    if found.decision is not None and found.decision.failed:
        return tuple(check.id for check in found.decision.failed)
    if isinstance(found.failure, CvmError):
        return (str(getattr(found.failure, "step", found.failure.code)),)
    return (UNAVAILABLE,)


def _words(found: Found) -> list[str]:
    """What went wrong, in words."""
    if found.failure is not None:
        return [found.failure.message]
    failed = () if found.decision is None else found.decision.failed
    return [f"{check.id}: got {_short(check.actual)}, want {_short(check.expected)}" for check in failed]


def _short(text: str) -> str:
    """A measurement may have thousands of values to be one of."""
    return text if len(text) <= _WORDS else f"{text[:_WORDS]}…"


def _lost(body: Any, rules: Rules, now: datetime) -> Iterator[str]:
    """Reference values that the guest equalled and that count no more."""
    for name in body.get("matched", ()):
        value = rules.references.named(name)
        if value is None:
            yield f"reference value {name} is in force no more"
        elif value.expires is not None and value.expires <= now:
            yield f"reference value {name} ended on {value.expires.date()}"


def _renewed(presented: Presented, collateral: ServiceCollateral, document: PolicyDocument, now: datetime) -> Presented:
    """The evidence with today's collateral beside that on record. Its REPORT_DATA is its own: the challenge is past."""
    if isinstance(presented, PresentedSnp):
        report = presented.report
        snp = collateral.endorsements(report, presented.endorsements, document, report.report_data, now)
        return replace(presented, endorsements=snp.endorsements, list_too_old=snp.crl_too_old)
    if isinstance(presented, PresentedTd):
        anchors, data = intel_anchors_of(document), presented.body.report_data
        tdx = collateral.intel.for_quote(presented.quote, anchors, document, data, now)
        return replace(presented, collateral=presented.collateral + tdx.collateral, list_too_old=tdx.lists_too_old)
    return presented
