"""Why a guest's launch digest was none of the expected ones: which input differs, proven by a recipe that gives it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from attest.audit.chain import parse_record
from attest.audit.record import DECISION
from attest.store import records, rules
from attest.store.engine import Database
from attest.store.errors import NotFound
from ovmf.explain import EXPLAINED, SAME, Explanation, explain
from policy.reference import LaunchRecipe, ReferenceValue, reference_from_bytes
from policy.vocab import LaunchDigest

_RANK = {SAME: 0, EXPLAINED: 1}


@dataclass(frozen=True, slots=True)
class Explained:
    """An explanation, and the name of the reference value the digest was compared with."""

    reference: str
    explanation: Explanation


def explain_refusal(
    database: Database, decision: int, candidates: Sequence[ReferenceValue], *, reference: str | None = None
) -> Explained:
    """Compare the digest a decision is about with the reference values in force.

    Of several values the one that explains it with the fewest differences is returned. Raises NotFound when the
    record is no decision about a readable report, or no reference value with a recipe is in force.
    """
    with database.read() as tx:
        reported = _reported(records.get(tx, decision), decision)
        stored = [reference_from_bytes(entry.document) for entry in rules.active_references(tx)]
    known = [
        (value.name, recipe) for value in stored if reference in (None, value.name) for recipe in _recipes([value])
    ]
    if not known:
        which = "none" if reference is None else f"none named {reference!r}"
        raise NotFound(f"reference values: {which} with a recipe is in force")
    recipes = _recipes([*candidates, *stored])
    thorough = len(known) == 1  # a second for each reference value
    found = [Explained(name, explain(reported, recipe, recipes, exhaustive=thorough)) for name, recipe in known]
    return min(found, key=lambda item: (_RANK.get(item.explanation.outcome, 2), len(item.explanation.differences)))


def _recipes(values: Sequence[ReferenceValue]) -> tuple[LaunchRecipe, ...]:
    return tuple(value.recipe for value in values if isinstance(value.recipe, LaunchRecipe))


def _reported(stored: records.StoredRecord | None, number: int) -> LaunchDigest:
    if stored is None or stored.kind != DECISION:
        raise NotFound(f"decision {number}: not found", hint="attest audit list --kind decision")
    record: Any = parse_record(stored.record, f"audit record {number}")
    claims = record["body"]["claims"]
    if claims is None:
        raise NotFound(f"decision {number}: the report was not genuine, so its launch digest means nothing")
    if "measurement" not in claims:
        raise NotFound(
            f"decision {number}: is not about an SNP guest, whose launch digest has a recipe",
            hint="attest audit show names the registers that differ, and the first event in each",
        )
    return LaunchDigest.from_hex(claims["measurement"])
