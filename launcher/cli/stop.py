"""``cvm stop``: end a VM, or tidy up after a launcher that died."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace

from launcher.service.stopping import forget, stop

DESCRIPTION = """End a VM: the power button first, then QEMU. Where the launcher has died, end and remove
what it left behind."""
EPILOG = """example: cvm stop web-1
exit status: 0 it has ended, 9 it does not end, 10 no such VM or not up"""


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("name", metavar="VM", help="its name (cvm ps)")
    parser.add_argument("--force", action="store_true", help="give the guest no time")
    parser.add_argument("--forget", action="store_true", help="remove the state folder of a VM that has ended")
    parser.add_argument("--seconds", type=float, default=30.0, metavar="S", help="how long to wait (default 30)")
    parser.add_argument("--json", action="store_true", help="print JSON (cvm.stop/1)")


def run(args: Namespace) -> int:
    """Stop; 0."""
    if args.forget:
        forget(args.name)
        row: dict[str, object] = {"name": args.name, "state": "forgotten"}
    else:
        row = stop(args.name, force=args.force, seconds=args.seconds)
    if args.json:
        sys.stdout.write(json.dumps({"schema": "cvm.stop/1", **row}, indent=2) + "\n")
    else:
        sys.stdout.write(f"{row['name']}: {row['state']}\n")
    return 0
