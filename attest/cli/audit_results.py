"""What ``attest audit verify`` says about each thing it checked."""

from __future__ import annotations

from typing import Any, NamedTuple

from attest.broker.proof_file import Proven


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


def of_record(path: str, proven: Proven, whole: bool) -> Result:
    """Of a record that is proven."""
    return Result(path, found=_json(proven)) if whole else Result(path, _lines(path, proven))


def _lines(path: str, proven: Proven) -> tuple[str, ...]:
    record: Any = proven.brief
    point = proven.checkpoint
    emulated = " EMULATED" if record["body"].get("emulated") else ""
    again = "; the decision was made again from the evidence in the file, with the same outcome"
    seen = f", cosigned by {', '.join(proven.witnesses)}" if proven.witnesses else ""
    return (
        f"{path}: record {record['seq']} of {point.origin}: {record['time']} {record['kind']} {record['subject']} "
        f"{record['outcome']}{emulated}",
        f"  in the log of {point.size} records, root {point.root.hex()}{seen}{again if proven.repeated else ''}",
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
    }
