"""``cvm qmp``: one command to a running VM's monitor."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace

from launcher.service.passthrough_qmp import qmp_of
from policy.errors import MalformedInput
from policy.strictjson import strict_json

DESCRIPTION = """Ask a running VM's QEMU, or (ordinary VMs, --change) have it do something. Of a confidential VM only
questions pass (query-...): each refusal has an id and the reason. What cvm has a verb for never passes."""
EPILOG = """example: cvm qmp web-1 query-status
         cvm qmp plain-1 block_resize '{"node-name":"node0","size":1073741824}' --change
exit status: 0 done, 5 arguments that are no JSON object, 10 no such VM, not up, refused here or by QEMU"""


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("name", metavar="VM", help="its name (cvm ps)")
    parser.add_argument("command", metavar="COMMAND", help="of QEMU's monitor, such as query-block")
    parser.add_argument("arguments", metavar="JSON", nargs="?", default="{}", help="its arguments, a JSON object")
    parser.add_argument("--change", action="store_true", help="an ordinary VM: let it pass although it is no question")
    parser.add_argument("--json", action="store_true", help="print JSON (cvm.qmp/1) instead of the bare answer")


def run(args: Namespace) -> int:
    """Print what QEMU returned, as JSON; 0."""
    arguments = strict_json(args.arguments.encode(), "arguments", max_bytes=1 << 15, error=MalformedInput)
    if not isinstance(arguments, dict):
        raise MalformedInput(f"arguments: got {type(arguments).__name__}, want a JSON object")
    value = qmp_of(args.name, args.command, arguments, change=args.change)
    shown = {"schema": "cvm.qmp/1", "name": args.name, "command": args.command, "return": value} if args.json else value
    sys.stdout.write(json.dumps(shown, indent=2) + "\n")
    return 0
