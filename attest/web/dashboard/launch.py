"""What a launch digest was made of, beside the reference value nearest to it, as data for the picture.

Compared with the reference values that were in force *when the decision was made*, which its record names. A recipe
that gives the digest proves each input; without one nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attest.broker.explain_td import TdExplained, explain_td
from attest.broker.present_tdx import PresentedTd, restore_tdx
from attest.evidence.event_data import decode_log
from attest.store import blobs, rules
from attest.store.errors import NotFound
from attest.web.dashboard.house import Ask
from ovmf.explain import Explanation, explain, inputs_of
from policy.errors import CvmError
from policy.reference import LaunchRecipe, ReferenceValue, reference_from_bytes
from policy.reference_tdx import TdRecipe
from policy.strictjson import strict_json

SAME, DIFFERS, UNKNOWN = "same", "differs", "unknown"
_COMPARED, _CANDIDATES, _EVENTS = 4, 16, 400
_RANK = {"same": 0, "explained": 1}
Named = tuple[str, LaunchRecipe]


def launch_of(ask: Ask, body: Any) -> dict[str, Any] | None:
    """The data of the picture; ``None`` where there is no genuine launch to show."""
    claims = body["claims"]
    try:
        if claims is None or "mrenclave" in claims:
            return None
        values = list(_in_force_then(ask, body["rules"]["references"]))
        if "mrtd" in claims:
            return _td(restore_tdx(body["evidence"], lambda digest: _blob(ask, digest)), values)
        return _snp(ask, claims["measurement"], values)
    except CvmError as exc:
        return {"kind": "none", "text": f"cannot be shown: {exc}"}


def _in_force_then(ask: Ask, digest: str) -> Iterator[ReferenceValue]:
    for entry in strict_json(_blob(ask, digest), "reference set", max_bytes=64 << 20):
        yield reference_from_bytes(_blob(ask, entry["sha256"]))


def _blob(ask: Ask, digest: str) -> bytes:
    data = blobs.get(ask.tx, bytes.fromhex(digest))
    if data is None:
        raise NotFound(f"the bytes {digest} are gone")
    return data


def _snp(ask: Ask, measurement: str, values: list[ReferenceValue]) -> dict[str, Any]:
    equal = [value for value in values if value.launch_digest.hex() == measurement]
    known = _named(equal or values[-_COMPARED:])
    if not known:
        matched = equal[0].name if equal else None
        text = "no reference value with a recipe to compare with"
        return {"kind": "none", "text": text, "reported": measurement, "reference": matched}
    candidates = [recipe for _, recipe in _known_launches(ask)]
    reported = type(values[0].launch_digest).from_hex(measurement)
    found = [(name, recipe, explain(reported, recipe, candidates, exhaustive=False)) for name, recipe in known]
    name, recipe, nearest = min(found, key=lambda item: (_RANK.get(item[2].outcome, 2), len(item[2].differences)))
    return {
        "kind": "snp",
        "reference": name,
        "outcome": nearest.outcome,
        "text": nearest.text(),
        "reported": measurement,
        "expected": nearest.expected.hex(),
        "inputs": _inputs(recipe, nearest, candidates),
    }


def _known_launches(ask: Ask) -> list[Named]:
    """Recipes of the reference values registered last, retired ones too: what else may have been launched."""
    return _named([reference_from_bytes(entry.document) for entry in rules.all_references(ask.tx)[-_CANDIDATES:]])


def _named(values: list[ReferenceValue]) -> list[Named]:
    return [(value.name, value.recipe) for value in values if isinstance(value.recipe, LaunchRecipe)]


def _inputs(recipe: LaunchRecipe, found: Explanation, candidates: list[LaunchRecipe]) -> list[dict[str, Any]]:
    return [
        {
            "name": item.name,
            "label": item.label,
            "expected": item.expected,
            "reported": item.reported,
            "state": UNKNOWN if item.reported is None else SAME if item.reported == item.expected else DIFFERS,
        }
        for item in inputs_of(recipe, found.recipe, candidates)
    ]


def expected_inputs(value: ReferenceValue) -> list[dict[str, Any]]:
    """The inputs of a reference value, nothing beside them."""
    if not isinstance(value.recipe, LaunchRecipe):
        return []
    return [
        {"name": item.name, "label": item.label, "expected": item.expected, "reported": item.expected, "state": SAME}
        for item in inputs_of(value.recipe, value.recipe)
    ]


def _td(presented: PresentedTd, values: list[ReferenceValue]) -> dict[str, Any]:
    body, known = presented.body, [value for value in values if isinstance(value.recipe, TdRecipe)]
    explained = explain_td(presented, known) if known else None
    nearest = next((value for value in known if explained and value.name == explained.reference), None)
    return {
        "kind": "tdx",
        "reference": None if explained is None else explained.reference,
        "outcome": UNKNOWN if explained is None else explained.outcome,
        "text": "no reference value of a TD to compare with" if explained is None else explained.text(),
        "reported": body.mrtd.hex(),
        "registers": list(_registers(presented, nearest)),
        "differences": [] if explained is None else [item.text() for item in explained.differences],
        "events": _events(presented, explained),
    }


def _registers(presented: PresentedTd, nearest: ReferenceValue | None) -> Iterator[dict[str, Any]]:
    expected = (None,) * 5 if nearest is None else (bytes(nearest.launch_digest), *nearest.rtmrs)
    reported = (presented.body.mrtd, *presented.body.rtmrs)
    for name, want, got in zip(("MRTD", "RTMR0", "RTMR1", "RTMR2", "RTMR3"), expected, reported, strict=True):
        state = UNKNOWN if want is None else SAME if want == got else DIFFERS
        yield {"name": name, "expected": None if want is None else want.hex(), "reported": got.hex(), "state": state}


def _events(presented: PresentedTd, explained: TdExplained | None) -> list[dict[str, Any]]:
    if presented.event_log is None:
        return []
    differing = {item.logged.digest for item in explained.differences if item.logged} if explained else set()
    return [
        {
            "register": "MRTD" if item.register < 0 else f"RTMR{item.register}",
            "name": item.name,
            "detail": item.detail,
            "digest": item.digest.hex(),
            "proven": item.proven,
            "state": DIFFERS if item.digest in differing else SAME,
        }
        for item in decode_log(presented.event_log)[:_EVENTS]
        if item.extended
    ]
