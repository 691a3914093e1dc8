"""What ``attest audit verify`` says about each thing it checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from attest.audit.facts import facts_of
from attest.audit.record import DECISION
from attest.broker.proof_file import Proven

_AGAIN = "; the decision was made again from the evidence in the file, with the same outcome"


class Result(NamedTuple):
    """What became of one path or record. ``found`` stays ``None`` where only ``lines`` are wanted: processes hand over
    little, and that in the form that pickles soonest.
    """

    path: str
    lines: tuple[str, ...] = ()
    found: dict[str, object] | None = None
    refused: str | None = None


def of_log(path: str, found: dict[str, Any], whole: bool) -> Result:
    """Of a log as files: its size, tiles and records; ``whole`` for JSON."""
    text = f"{path}: the log of {found['size']} records, {found['tiles']} tiles, {found['records']} records"
    return Result(path, found={"kind": "log", **found}) if whole else Result(path, (text,))


def of_growth(path: str, found: dict[str, Any], whole: bool) -> Result:
    """Of a consistency file: the old and the new size."""
    text = f"{path}: the log of {found['size']} records extends that of {found['old']}"
    return Result(path, found={"kind": "consistency", **found}) if whole else Result(path, (text,))


def of_record(path: str, proven: Proven, whole: bool, *, alone: bool = False) -> Result:
    """Of a record that is proven. ``alone``: say of a decision what it rests on, which takes reading all of it."""
    if whole:
        return Result(path, found=_json(proven))
    decision = proven.record if alone and proven.repeated else proven.decision
    judged = decision is not None and decision["body"]["decision"] is not None  # what is not genuine is not judged
    return Result(path, _lines(path, proven) + (_decided(decision, proven) if decision and judged else ()))


def _decided(decision: Mapping[str, Any], proven: Proven) -> tuple[str, ...]:
    """Which measurement, on which chip at which level, by which policy: of a release by the decision it rests on."""
    body = decision["body"]
    facts = facts_of(DECISION, decision["subject"], body)
    rests = f"  rests on decision {decision['seq']} of {decision['time']}{_AGAIN}"
    return (
        *([rests] if proven.decision is not None else []),
        f"  measurement {facts.measurement}, reference values {', '.join(body['matched'] or []) or 'none'}",
        f"  chip {facts.chip}, {facts.level}",
        f"  policy {body['decision']['policy']}, SHA-256 {body['rules']['policy']}",
    )


def _lines(path: str, proven: Proven) -> tuple[str, ...]:
    record: Any = proven.brief
    point = proven.checkpoint
    emulated = " EMULATED" if record["body"].get("emulated") else ""
    seen = f", cosigned by {', '.join(proven.witnesses)}" if proven.witnesses else ""
    return (
        f"{path}: record {record['seq']} of {point.origin}: {record['time']} {record['kind']} {record['subject']} "
        f"{record['outcome']}{emulated}",
        f"  in the log of {point.size} records, root {point.root.hex()}{seen}{_AGAIN if proven.repeated else ''}",
    )


def _json(proven: Proven) -> dict[str, object]:
    return {
        "kind": "record",
        "record": proven.record,
        "log": proven.checkpoint.origin,
        "size": proven.checkpoint.size,
        "root": proven.checkpoint.root.hex(),
        "witnesses": list(proven.witnesses),
        "repeated": proven.repeated,
        **({} if proven.decision is None else {"decision": proven.decision}),
    }
