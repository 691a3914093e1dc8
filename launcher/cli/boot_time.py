"""``cvm boot-time``: where the time of a VM's last launch went."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping

from launcher.core.boot_time import Stage, missing, stages
from launcher.core.names import RESULT_FILE
from launcher.errors import StateUnusable
from launcher.io.statedir import existing, state_root

DESCRIPTION = """Show where the time of a VM's last launch went, from the launcher's record: QEMU, firmware,
kernel, evidence, the service's decision, key, payload. Times are the host's; a stage nobody saw end
is part of the next one."""
EPILOG = "example: cvm boot-time web-1\nexit status: 0 shown, 8 no record, 10 no such VM"


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("name", metavar="VM", help="its name (cvm ps)")
    parser.add_argument("--json", action="store_true", help="print JSON (cvm.boot-time/1)")


def run(args: Namespace) -> int:
    """Print; 0."""
    vm = existing(state_root(), args.name)
    seconds = _numbers(vm.read_json(RESULT_FILE).get("seconds"))
    found, unseen = stages(seconds), missing(seconds)
    if args.json:
        sys.stdout.write(json.dumps(_document(args.name, found, unseen), indent=2) + "\n")
    else:
        sys.stdout.write(_text(args.name, found, unseen))
    return 0


def _numbers(seconds: object) -> Mapping[str, float]:
    if not isinstance(seconds, dict) or not all(isinstance(value, int | float) for value in seconds.values()):
        raise StateUnusable("the record of the last launch has no times")
    return seconds


def _document(name: str, found: tuple[Stage, ...], unseen: tuple[str, ...]) -> dict[str, object]:
    rows = [{**stage._asdict(), "seconds": stage.seconds} for stage in found]
    total = found[-1].end if found else None
    return {"schema": "cvm.boot-time/1", "name": name, "stages": rows, "not_seen": list(unseen), "total": total}


def _text(name: str, found: tuple[Stage, ...], unseen: tuple[str, ...]) -> str:
    if not found:
        return f"{name}: nothing was observed yet\n"
    total = found[-1].end or 1.0
    lines = [f"{name}: {found[-1].end:.3f} s to {found[-1].name}"]
    for stage in found:
        bar = "█" * round(30 * stage.seconds / total)
        lines.append(
            f"  {stage.name:<9}{stage.seconds:9.3f} s {100 * stage.seconds / total:5.1f} %  {bar:<30}  {stage.what}"
        )
    if unseen:
        lines.append(f"  not seen: {', '.join(unseen)}")
    return "\n".join(lines) + "\n"
