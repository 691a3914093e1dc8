"""``cvm console``: attach to a VM's serial console."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from launcher.core.names import CONSOLE_SOCKET
from launcher.core.text import ConsoleFilter
from launcher.errors import WrongState
from launcher.io.sockets import connect
from launcher.io.statedir import existing, state_root
from launcher.io.terminal import attach
from launcher.service.listing import describe

DESCRIPTION = """Attach to a VM's serial console; Ctrl-] leaves. Escape sequences the guest sends are removed:
they can rewrite what is on the screen, or type for you. --raw lets them through."""
EPILOG = "example: cvm console web-1\nexit status: 0 detached or ended, 10 no such VM or not up"


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("name", metavar="VM", help="its name (cvm ps)")
    parser.add_argument("--raw", action="store_true", help="pass the guest's escape sequences to this terminal")


def run(args: Namespace) -> int:
    """Attach; 0."""
    vm = existing(state_root(), args.name)
    try:
        console = connect(vm.path, CONSOLE_SOCKET)
    except OSError:
        state = describe(vm)["state"]
        raise WrongState(f"VM {args.name} is {state}: no console", hint=f"cvm logs {args.name}") from None
    sys.stderr.write(f"console of {args.name}; Ctrl-] leaves\n")
    sys.stderr.flush()
    with console:
        why = attach(console, sys.stdin.fileno(), sys.stdout.fileno(), bytes if args.raw else ConsoleFilter().feed)
    sys.stderr.write(f"\n{why}\n")
    return 0
