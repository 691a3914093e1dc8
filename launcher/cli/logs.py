"""``cvm logs``: what a VM wrote to its console, made safe for a terminal."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections import deque
from collections.abc import Iterator
from datetime import datetime

from launcher.core import names
from launcher.core.states import LIVE
from launcher.core.text import LineSplitter
from launcher.io.statedir import VmDir, existing, state_root
from launcher.io.tail import Tail
from launcher.io.times import offset_at
from launcher.service.listing import describe

DESCRIPTION = """Show what a VM wrote to its console, or another log of its launch. Escape sequences are removed.
A log that has grown past 16 MiB is moved aside once; what was moved is shown first."""
EPILOG = "example: cvm logs web-1 -f --since 10m\nexit status: 0 shown, 2 usage, 10 no such VM"
_FILES = {
    "console": names.SERIAL_LOG,
    "status": names.STATUS_LOG,
    "qemu": names.QEMU_LOG,
    "emulator": names.EMULATOR_LOG,
    "launcher": names.LAUNCHER_LOG,
}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MOST_LINES = 10_000


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("name", metavar="VM", help="its name (cvm ps)")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the VM has ended")
    parser.add_argument("--source", choices=tuple(_FILES), default="console", help="which log (default: console)")
    parser.add_argument("--previous", action="store_true", help="the console of the launch before this one")
    parser.add_argument(
        "--since", type=since_argument, metavar="TIME",
        help="console only, to the second: an age such as 30s, 10m, 2h, 1d, or an RFC 3339 time",
    )  # fmt: skip
    parser.add_argument("-n", "--lines", type=_lines, metavar="N", help="of what is there, the last N lines")
    parser.add_argument("--json", action="store_true", help='print JSON lines {"schema":"cvm.logs/1","line":…}')


def run(args: Namespace) -> int:
    """Print; 0."""
    if args.since is not None and args.source != "console":
        sys.stderr.write("cvm: --since: only the console's times are known\n")
        return 2
    if args.previous and (args.follow or args.source != "console"):
        sys.stderr.write("cvm: --previous: the console of a launch that has ended; not with --follow or --source\n")
        return 2
    vm = existing(state_root(), args.name)
    path = vm.file(names.SERIAL_LOG + names.PREVIOUS if args.previous else _FILES[args.source])
    tail, lines = _tail(path, args.since), LineSplitter()
    there = _there(path, args.since, tail, lines)
    if path == vm.file(names.SERIAL_LOG) and not args.follow:
        _hint(vm)
    for line in there if args.lines is None else deque(there, args.lines):
        _put(line, as_json=args.json)
    if args.follow:
        _follow(vm, tail, lines, as_json=args.json)
    if lines.pending:
        _put(lines.pending, as_json=args.json)
    return 0


def _hint(vm: VmDir) -> None:
    """Of a launch that failed before the guest said a word: what knows more."""
    sizes = {source: os.path.getsize(vm.file(name)) if os.path.exists(vm.file(name)) else 0
             for source, name in _FILES.items()}  # fmt: skip
    others = [source for source, size in sizes.items() if size]
    if others and not sizes["console"]:
        sys.stderr.write(f"cvm: {vm.name} wrote nothing to its console; --source {' or '.join(others)} has more\n")


def _tail(path: str, since: float | None) -> Tail:
    return Tail(path, 0 if since is None else offset_at(path, since))


def _there(path: str, since: float | None, tail: Tail, lines: LineSplitter) -> Iterator[str]:
    """Whole lines of the log as it is now, after those of the part that was moved aside."""
    for part in (_tail(f"{path}.1", since), tail):
        while data := part.read():
            yield from lines.feed(data)


def _follow(vm: VmDir, tail: Tail, lines: LineSplitter, *, as_json: bool) -> None:
    live = True
    while live:
        sys.stdout.flush()
        time.sleep(0.2)
        live = describe(vm)["state"] in LIVE  # asked first: what it wrote before it ended is still read
        while data := tail.read():
            for line in lines.feed(data):
                _put(line, as_json=as_json)


def _put(line: str, *, as_json: bool) -> None:
    sys.stdout.write((json.dumps({"schema": "cvm.logs/1", "line": line}) if as_json else line) + "\n")


def since_argument(text: str) -> float:
    """An age or a time, as seconds since 1970; for argparse."""
    age = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if age is not None:
        return time.time() - int(age[1]) * _UNITS[age[2]]
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise ArgumentTypeError(f"got {text[:40]!r}, want an age such as 10m or a time such as 2026-01-02T03:04:05Z")
    return when.timestamp()


def _lines(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 8 and int(text) <= _MOST_LINES):
        raise ArgumentTypeError(f"got {text[:20]!r}, want 0 to {_MOST_LINES}")
    return int(text)
