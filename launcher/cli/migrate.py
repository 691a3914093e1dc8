"""``cvm migrate``: an ordinary VM moves to another host while it runs."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace

from launcher.service.migrating import migrate

DESCRIPTION = """Move a running ordinary VM to where `cvm launch VM.toml --incoming WHERE` waits with the same
VM file. Its disks must be reachable from both hosts: memory moves, disks do not. The guest's memory
crosses the connection unencrypted; a protected VM is stopped here and launched there instead."""
EPILOG = """example: cvm migrate web-1 --to unix:/run/user/0/web-1.sock
exit status: 0 moved, 10 no such VM, not up, nobody waits there, or it stayed here"""


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("name", metavar="VM", help="its name (cvm ps)")
    parser.add_argument("--to", metavar="WHERE", required=True, help="unix:/path or tcp:host:port")
    parser.add_argument("--plain", action="store_true", help="beyond this host, unencrypted")
    parser.add_argument("--json", action="store_true", help="print JSON (cvm.migrate/1)")


def run(args: Namespace) -> int:
    """Move it; 0."""
    row = migrate(args.name, args.to, plain=args.plain)
    if args.json:
        sys.stdout.write(json.dumps({"schema": "cvm.migrate/1", **row}, indent=2) + "\n")
    else:
        sys.stdout.write(f"{row['name']}: {row['reason']}\n")
    return 0
