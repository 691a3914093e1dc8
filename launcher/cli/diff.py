"""``cvm diff``: what changes between two VM files, and what of it the hardware will measure."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace

from launcher.core.difference import Change, command_line_changed, events_changed, recipe_changed, settings_changed
from launcher.core.text import safe_text
from launcher.errors import PlanRefused
from launcher.service.planning import Prepared, prepare

DESCRIPTION = """Show what differs between two VM files: in their settings, in what the hardware measures, in the
kernel's command line. For each change: whether it is measured, shown in the evidence, or neither."""
EPILOG = """example: cvm diff web-1.toml web-1-new.toml
exit status: 0 compared (the JSON member same_measurement says whether they measure the same), 3 a file is wrong,
4 no toolchain"""


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("before", metavar="A.toml", help="a VM's file")
    parser.add_argument("after", metavar="B.toml", help="another")
    parser.add_argument("--json", action="store_true", help="print JSON (cvm.diff/1)")


def run(args: Namespace) -> int:
    """Compare; 0."""
    document = compare(_prepared(args.before), _prepared(args.after))
    if args.json:
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        sys.stdout.write(_text(document))
    return 0


def _prepared(path: str) -> Prepared:
    """An error of two files says which."""
    try:
        return prepare(path)
    except PlanRefused as exc:
        exc.message = f"{path}: {exc.message}"
        raise


def compare(before: Prepared, after: Prepared) -> dict[str, object]:
    """The comparison, schema ``cvm.diff/1``. ``same_measurement`` is ``null`` where one of the two is not
    measured, or where a register could not be predicted and those that could be are the same.
    """
    registers = _registers(before, after)
    lines = command_line_changed(before.plan.spec.cmdline, after.plan.spec.cmdline)
    return {
        "schema": "cvm.diff/1",
        "before": before.config.name,
        "after": after.config.name,
        "same_measurement": _same(registers),
        "registers": registers,
        "inputs": [item._asdict() for item in _inputs(before, after)],
        "command_line": [{"sign": sign, "word": word} for sign, word in lines],
        "settings": [item._asdict() for item in settings_changed(before.config, after.config)],
        "unpredicted": sorted({*_unpredicted(before), *_unpredicted(after)}),
    }


def _inputs(before: Prepared, after: Prepared) -> tuple[Change, ...]:
    if before.measured is not None and after.measured is not None:
        return recipe_changed(before.measured.recipe(), after.measured.recipe())
    if before.td is not None and after.td is not None:
        return events_changed(before.td.prediction.events, after.td.prediction.events)
    return ()


def _registers(before: Prepared, after: Prepared) -> list[dict[str, object]]:
    """Name and the two values in hexadecimal, ``None`` for one nobody can predict or that there is not."""
    old, new = _values(before), _values(after)
    return [{"name": name, "before": old.get(name), "after": new.get(name)} for name in sorted({*old, *new})]


def _values(prepared: Prepared) -> dict[str, str | None]:
    if prepared.td is None:
        return {} if prepared.launch_digest is None else {"launch digest": prepared.launch_digest}
    found: dict[str, str | None] = {"MRTD": prepared.launch_digest}
    for number, value in enumerate(prepared.td.prediction.rtmrs):
        found[f"RTMR{number}"] = None if value is None else value.hex()
    return found


def _same(registers: list[dict[str, object]]) -> bool | None:
    if any(item["before"] != item["after"] for item in registers if item["before"] and item["after"]):
        return False
    return None if not registers or any(not (item["before"] and item["after"]) for item in registers) else True


def _unpredicted(prepared: Prepared) -> list[str]:
    return [] if prepared.td is None else [str(item) for item in prepared.td.prediction.unpredicted]


def _verdict(document: dict[str, object]) -> str:
    if not document["registers"]:
        return "nothing measures them"
    verdicts = {True: "measures the same", False: "measures differently"}
    same = document["same_measurement"]
    return verdicts[same] if isinstance(same, bool) else "cannot be compared whole"


def _text(document: dict[str, object]) -> str:
    lines = [f"{document['before']} → {document['after']}: {_verdict(document)}"]
    for row in _rows(document, "registers"):
        if row["before"] == row["after"] and row["before"]:
            lines.append(f"  {row['name']}: same, {row['after']}")
        else:
            lines += [f"  {row['name']}:", *(f"    {sign} {row[key] or 'not known'}" for sign, key in _SIDES)]
    for title, key in (("measured inputs", "inputs"), ("settings", "settings")):
        rows = _rows(document, key)
        lines += ["", title if rows else f"{title}: no difference"]
        for row in rows:
            lines.append(f"  {row['what']}: {safe_text(str(row['before']), 100)} → {safe_text(str(row['after']), 100)}")
            lines.append(f"      {row['effect']}: {row['why']}")
    words = _rows(document, "command_line")
    lines += ["", "kernel command line" if words else "kernel command line: no difference"]
    lines += [f"  {row['sign']} {safe_text(str(row['word']), 160)}" for row in words]
    unpredicted = document["unpredicted"]
    if isinstance(unpredicted, list) and unpredicted:
        lines += ["", f"not predicted: {', '.join(map(str, unpredicted))}"]
    return "\n".join(lines) + "\n"


_SIDES = (("-", "before"), ("+", "after"))


def _rows(document: dict[str, object], key: str) -> list[dict[str, object]]:
    rows = document[key]
    return rows if isinstance(rows, list) else []
