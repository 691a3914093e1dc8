"""``cvm events``: what happened to VMs, across their launches."""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from launcher.cli.logs import since_argument
from launcher.core.text import safe_text
from launcher.io.event_reader import EventReader
from launcher.io.statedir import VmDir, existing, state_root, vm_names

DESCRIPTION = """Show what happened to VMs, to all or to those named: launches and their ends, restarts and reboots,
what QEMU, operators and the guest did (booted, evidence, attested, unlocked: the key of its disk was released, running,
refused). What a guest says is the guest's word."""
EPILOG = """example: cvm events web-1 --follow --json
exit status: 0 shown, 10 no such VM, 130 interrupted (--follow goes on until then)"""
_POLL = 0.2


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("names", metavar="VM", nargs="*", help="names (cvm ps); none: every VM, also those to come")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what happens")
    parser.add_argument(
        "--since", type=since_argument, metavar="TIME", help="an age such as 30s, 10m, 2h, 1d, or an RFC 3339 time"
    )
    parser.add_argument("--json", action="store_true", help="print JSON lines (cvm.event/1)")


def run(args: Namespace) -> int:
    """Print; 0."""
    stream = Stream(state_root(), args.names)
    while True:
        for event in stream.read():
            if args.since is None or _seconds(event) >= args.since:
                sys.stdout.write((json.dumps(event) if args.json else line_of(event)) + "\n")
        sys.stdout.flush()
        if not args.follow:
            return 0
        time.sleep(_POLL)


class Stream:
    """Events of several VMs as one, ordered by time within each reading."""

    def __init__(self, root: str, names: list[str]) -> None:
        self._root = root
        self._readers = {name: EventReader(existing(root, name).path) for name in names}
        self._all = not names

    def read(self) -> Iterator[dict[str, Any]]:
        """What is new."""
        if self._all:
            for name in vm_names(self._root):
                if name not in self._readers:
                    self._readers[name] = EventReader(VmDir(self._root, name).path)
        return iter(sorted((event for reader in self._readers.values() for event in reader.read()), key=_seconds))


def line_of(event: dict[str, Any]) -> str:
    """For a person, safe for a terminal."""
    detail = ", ".join(f"{name} {_shown(value)}" for name, value in event["detail"].items())
    words = safe_text(f"{event['source']}: {event['event']}{' (' + detail + ')' if detail else ''}", 1000)
    return f"{safe_text(event['time'], 40)}  {safe_text(event['vm'], 70)}  {words}"


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _seconds(event: dict[str, Any]) -> float:
    """Since 1970; a time that is none sorts first."""
    try:
        return datetime.fromisoformat(event["time"]).timestamp()
    except (ValueError, OverflowError):
        return 0.0
