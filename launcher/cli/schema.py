"""``cvm schema``: the JSON Schema of the VM file."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace

from launcher.config.schema import vm_schema

DESCRIPTION = """Print the JSON Schema of the VM file, for editors (keys, types, choices, defaults). Ranges and
what several keys mean together are said by cvm plan."""
EPILOG = "example: cvm schema > vm.schema.json\nexit status: 0 printed"


def add_arguments(parser: ArgumentParser) -> None:
    """The verb has no options."""
    del parser


def run(args: Namespace) -> int:
    """Print; 0."""
    del args
    sys.stdout.write(json.dumps(vm_schema(), indent=2, ensure_ascii=False) + "\n")
    return 0
