"""A release rests on a decision: which one it names, and whether the two agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from attest.audit.errors import AuditBroken
from attest.audit.facts import facts_of
from attest.audit.record import DECISION, REFUSED_RELEASE, RELEASE
from policy.decide import AFFIRMING


def decision_named(record: Mapping[str, Any]) -> int | None:
    """The number of the decision that a release, or a refused one, rests on; ``None`` for any other record."""
    body = record.get("body")
    if record.get("kind") not in (RELEASE, REFUSED_RELEASE) or not isinstance(body, Mapping):
        return None
    named = body.get("decision")
    return named if type(named) is int else None


def check_rests(release: Mapping[str, Any], decision: Mapping[str, Any]) -> None:
    """The release rests on this decision. Both are records that hold. Raises AuditBroken, naming what disagrees."""
    what = f"audit record {release.get('seq')}"
    for name, stated, found in _pairs(release, decision):
        if stated != found:
            raise AuditBroken(
                f"{what}: {name}: states {str(stated)[:80]}, record {decision.get('seq')} has {str(found)[:80]}"
            )


def _pairs(release: Mapping[str, Any], decision: Mapping[str, Any]) -> Iterator[tuple[str, object, object]]:
    """What both say, by name. A record from before releases named chip and measurement says nothing of them."""
    said, decided = release["body"], decision["body"]
    yield "decision", decision_named(release), decision.get("seq")
    yield "kind of the record it rests on", DECISION, decision.get("kind")
    yield "token_id", said.get("token_id"), decided.get("token_id")
    yield "emulated", said.get("emulated"), decided.get("emulated")
    stated = facts_of(RELEASE, str(release.get("subject")), said)
    found = facts_of(DECISION, str(decision.get("subject")), decided)
    if stated.chip is not None:
        yield "chip", stated.chip, found.chip
    if stated.measurement is not None:
        yield "measurement", stated.measurement, found.measurement
    if release.get("kind") == RELEASE:
        yield "outcome of the decision", AFFIRMING, decision.get("outcome")
        yield "tee_pubkey", said.get("tee_pubkey"), decided["binding"].get("tee_pubkey")
