"""``cvm pause``, and what ``cvm resume`` shares with it."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace

from launcher.service.pausing import pause

DESCRIPTION = """Stop a VM's processors; its memory stays. Its timeouts stand still too. The guest's clock may
jump when it goes on, and tokens it holds may have expired."""
EPILOG = """example: cvm pause web-1
exit status: 0 done, 10 no such VM, not up, paused already, or QEMU refused"""


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("name", metavar="VM", help="its name (cvm ps)")
    parser.add_argument("--json", action="store_true", help="print JSON (cvm.pause/1)")


def run(args: Namespace) -> int:
    """Pause; 0."""
    return run_with(args, on=True)


def run_with(args: Namespace, *, on: bool) -> int:
    """Pause, or with ``on=False`` resume, and say what became of it; 0."""
    row = pause(args.name, on=on)
    if args.json:
        sys.stdout.write(json.dumps({"schema": "cvm.pause/1", **row}, indent=2) + "\n")
    else:
        sys.stdout.write(f"{row['name']}: {row['state']}{' (paused)' if row['paused'] else ''}\n")
    return 0
