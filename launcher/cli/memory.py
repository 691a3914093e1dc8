"""``cvm memory``: see and change a running ordinary VM's memory."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace

from launcher.config.sizes import parse_size
from launcher.core.states import LIVE
from launcher.errors import WrongState
from launcher.io.control import ask
from launcher.io.statedir import existing, state_root
from launcher.service.listing import describe
from policy.errors import CvmError

DESCRIPTION = """Show or change the memory of a running ordinary VM: less and more with its balloon ([ram] balloon),
beyond its first size with memory modules or virtio-mem ([ram] max, slots and grow), which it gives back when asked. The
guest needs drivers; what it did is shown. A confidential VM's memory never changes."""
EPILOG = """example: cvm memory build-3 6GiB
exit status: 0 done, 2 no size, 10 no such VM, not up, or it cannot have that size"""


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("name", metavar="VM", help="its name (cvm ps)")
    parser.add_argument("size", metavar="SIZE", nargs="?", help="such as 6GiB; without it memory is only shown")
    parser.add_argument("--json", action="store_true", help="print JSON (cvm.memory/1)")


def run(args: Namespace) -> int:
    """Ask its launcher; 0."""
    size = None if args.size is None else parse_size(args.size)
    if args.size is not None and size is None:
        raise CvmError(f"cvm memory: got {args.size[:40]!r}, want a size such as 6GiB", code="usage")
    vm = existing(state_root(), args.name)
    state = describe(vm)["state"]
    if state not in LIVE:
        raise WrongState(f"VM {args.name} is {state}, not up", hint="the next launch reads memory from its VM file")
    answer = ask(vm.path, args.name, "memory", {} if size is None else {"size": size})
    if args.json:
        sys.stdout.write(json.dumps({"schema": "cvm.memory/1", "name": args.name, **answer}, indent=2) + "\n")
    else:
        sys.stdout.write(f"{args.name}: {answer.get('said')}\n")
    return 0
