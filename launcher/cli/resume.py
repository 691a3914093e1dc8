"""``cvm resume``."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace

from launcher.service.pausing import pause

DESCRIPTION = """Let a paused VM go on."""
EPILOG = """example: cvm resume web-1
exit status: 0 done, 10 no such VM, not up, not paused, or QEMU refused"""


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("name", metavar="VM", help="its name (cvm ps)")
    parser.add_argument("--json", action="store_true", help="print JSON (cvm.pause/1)")


def run(args: Namespace) -> int:
    """Resume; 0."""
    row = pause(args.name, on=False)
    if args.json:
        sys.stdout.write(json.dumps({"schema": "cvm.pause/1", **row}, indent=2) + "\n")
    else:
        sys.stdout.write(f"{row['name']}: {row['state']}{' (paused)' if row['paused'] else ''}\n")
    return 0
