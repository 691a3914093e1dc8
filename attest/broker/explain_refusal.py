"""Why a guest's launch digest was none of the expected ones: which input differs, proven by a recipe that gives it.

Of a TD the event log says it: see :mod:`attest.broker.explain_td`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from attest.audit.chain import parse_record
from attest.audit.record import DECISION
from attest.broker.errors import RequestMalformed
from attest.broker.explain_td import TdExplained, explain_td
from attest.broker.present_tdx import restore_tdx
from attest.store import blobs, records, rules
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
    database: Database,
    decision: int,
    candidates: Sequence[ReferenceValue],
    *,
    reference: str | None = None,
    most: int | None = None,
) -> Explained | TdExplained:
    """Compare the digest a decision is about with the reference values in force.

    Of several values the one that explains it with the fewest differences is returned. ``candidates`` say nothing
    about a TD, whose own log does. ``most`` bounds how many values are compared where ``reference`` names none.

    Raises NotFound when the record is no decision about a genuine SNP guest or TD, or no reference value with a recipe
    is in force, RequestMalformed where there are more than ``most``.
    """
    with database.read() as tx:
        active = rules.active_references(tx)
        if most is not None and reference is None and len(active) > most:
            raise RequestMalformed(f"reference: {len(active)} values are in force, want one by name beyond {most}")
        stored = [reference_from_bytes(entry.document) for entry in active]
        body = _body(records.get(tx, decision), decision)
        if "mrtd" in body["claims"]:
            presented = restore_tdx(body["evidence"], lambda digest: _blob(tx, digest, decision))
            return explain_td(presented, [value for value in stored if reference in (None, value.name)])
    reported = _reported(body, decision)
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


def explained_json(decision: int, found: Explained | TdExplained) -> dict[str, Any]:
    """What was found out, for programs."""
    answer = found if isinstance(found, TdExplained) else found.explanation
    return {
        "decision": decision,
        "reference": found.reference,
        "outcome": answer.outcome,
        "reported": answer.reported.hex(),
        "expected": answer.expected.hex(),
        "differs": [item.name for item in answer.differences],
        **(_of_td(answer) if isinstance(answer, TdExplained) else _of_snp(answer)),
        "text": answer.text(),
    }


def _of_td(answer: TdExplained) -> dict[str, Any]:
    differences = [
        {"register": item.register, "place": item.place, "kind": item.kind, "text": item.text()}
        for item in answer.differences
    ]
    return {"registers": list(answer.registers), "differences": differences}


def _of_snp(answer: Explanation) -> dict[str, Any]:
    differences = [{**item._asdict(), "label": item.label} for item in answer.differences]
    return {"differences": differences, "same": list(answer.same)}


def _recipes(values: Sequence[ReferenceValue]) -> tuple[LaunchRecipe, ...]:
    return tuple(value.recipe for value in values if isinstance(value.recipe, LaunchRecipe))


def _body(stored: records.StoredRecord | None, number: int) -> Any:
    if stored is None or stored.kind != DECISION:
        raise NotFound(f"decision {number}: not found", hint="attest audit list --kind decision")
    record: Any = parse_record(stored.record, f"audit record {number}")
    if record["body"]["claims"] is None:
        raise NotFound(f"decision {number}: the report was not genuine, so its launch digest means nothing")
    return record["body"]


def _blob(tx: Connection, digest: str, number: int) -> bytes:
    data = blobs.get(tx, bytes.fromhex(digest))
    if data is None:
        raise NotFound(f"decision {number}: the bytes {digest} it names are gone")
    return data


def _reported(body: Any, number: int) -> LaunchDigest:
    claims = body["claims"]
    if "measurement" not in claims:
        raise NotFound(f"decision {number}: is about an enclave, whose MRENCLAVE has no recipe here")
    return LaunchDigest.from_hex(claims["measurement"])
