"""What an upgrade's stages mean for a release: the value a decision rests on may retire, and a canary has a number.

A decision rests on the reference values that its guest matched. As long as one of them counts without a stage there is
nothing to look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from attest.broker.errors import AccessDenied
from attest.broker.rules import Rules
from attest.store import rules as stored_rules
from attest.store.decisions import StoredDecision
from policy.reference import ReferenceValue


def staged(rules: Rules, decision: StoredDecision) -> tuple[ReferenceValue, ...]:
    """The values a decision rests on, where all of them have a stage; empty where nothing needs to be looked at."""
    named = [value for name in decision.references if (value := rules.references.named(name)) is not None]
    return tuple(named) if named and all(value.stage is not None for value in named) else ()


def retired(decision: StoredDecision, values: Sequence[ReferenceValue], now: datetime) -> AccessDenied | None:
    """The refusal where every value has retired since the decision."""
    if not values or any(_counts(value, now) for value in values):
        return None
    return _denied(decision, "its reference value has retired since", "reference.retired")


def count_canary(tx: Connection, decision: StoredDecision, values: Sequence[ReferenceValue]) -> AccessDenied | None:
    """Count a release where only next values with a number are matched; the refusal where none is left."""
    limits = [(value.name, _limit(value)) for value in values]
    if not limits or any(most is None for _, most in limits):
        return None
    if any(stored_rules.count_canary(tx, name, most) for name, most in limits if most is not None):
        return None
    return _denied(decision, "its next reference value has no release left before promotion", "canary.releases")


def _limit(value: ReferenceValue) -> int | None:
    canary = None if value.stage is None else value.stage.canary
    return None if canary is None else canary.releases


def _counts(value: ReferenceValue, now: datetime) -> bool:
    return value.stage is None or value.stage.retires is None or now < value.stage.retires


def _denied(decision: StoredDecision, why: str, reason: str) -> AccessDenied:
    return AccessDenied(
        f"access denied by policy: {why} (decision {decision.id})", decision=decision.id, reasons=(reason,)
    )
