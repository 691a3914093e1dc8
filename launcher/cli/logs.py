"""``cvm logs``: what a VM wrote to its console, made safe for a terminal."""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser, Namespace

from launcher.core import names
from launcher.core.states import LIVE
from launcher.core.text import LineSplitter
from launcher.io.statedir import existing, state_root
from launcher.io.tail import Tail
from launcher.service.listing import describe

EPILOG = "example: cvm logs web-1 -f\nexit status: 0 shown, 10 no such VM"
_FILES = {
    "console": names.SERIAL_LOG,
    "status": names.STATUS_LOG,
    "qemu": names.QEMU_LOG,
    "emulator": names.EMULATOR_LOG,
    "launcher": names.LAUNCHER_LOG,
}


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("name", metavar="VM", help="its name (cvm ps)")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the VM has ended")
    parser.add_argument("--source", choices=tuple(_FILES), default="console", help="which log (default: console)")
    parser.add_argument("--previous", action="store_true", help="the console of the launch before this one")
    parser.add_argument("--json", action="store_true", help='print JSON lines {"schema":"cvm.logs/1","line":…}')


def run(args: Namespace) -> int:
    """Print; 0."""
    vm = existing(state_root(), args.name)
    name = names.SERIAL_LOG + names.PREVIOUS if args.previous else _FILES[args.source]
    tail, lines = Tail(vm.file(name)), LineSplitter()
    for older in () if args.follow else (Tail(vm.file(f"{name}.1")),):  # what rotation moved aside
        while data := older.read():
            for line in lines.feed(data):
                _put(line, as_json=args.json)
    while True:
        live = args.follow and not args.previous and describe(vm)["state"] in LIVE
        while data := tail.read():
            for line in lines.feed(data):
                _put(line, as_json=args.json)
        if not live:
            break
        sys.stdout.flush()
        time.sleep(0.2)
    if lines.pending:
        _put(lines.pending, as_json=args.json)
    return 0


def _put(line: str, *, as_json: bool) -> None:
    sys.stdout.write((json.dumps({"schema": "cvm.logs/1", "line": line}) if as_json else line) + "\n")
