"""``cvm schema``: JSON Schemas of the VM file and of events."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace

from launcher.config.schema import vm_schema
from launcher.core.event_schema import event_schema

DESCRIPTION = """Print the JSON Schema of the VM file, for editors (keys, types, choices, defaults; ranges and what
several keys mean together are said by cvm plan), or of one event, a line of cvm events --json."""
EPILOG = """example: cvm schema > vm.schema.json
         cvm schema --of event > event.schema.json
exit status: 0 printed"""
_MADE = {"vm": vm_schema, "event": event_schema}


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("--of", choices=tuple(_MADE), default="vm", help="what it describes (default: vm)")


def run(args: Namespace) -> int:
    """Print; 0."""
    sys.stdout.write(json.dumps(_MADE[args.of](), indent=2, ensure_ascii=False) + "\n")
    return 0
