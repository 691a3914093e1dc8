"""``cvm receive``: wait for a VM that another host moves here."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace

from launcher.core.migration import parse_target
from launcher.core.text import safe_text
from launcher.errors import GuestDenied, GuestFailed, PlanRefused

DESCRIPTION = """Wait for one VM that `cvm move` sends, take its files into a folder, and start it (if it was up).
Before it is stopped there, this host says whether it can run it and would measure the same."""
EPILOG = """example: cvm receive unix:/run/cvm-in.sock --into /srv/vms
exit status: 0 here, 7 here and refused by the service, 9 it did not come, or did not start"""


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("at", metavar="WHERE", help="unix:/path of a socket that only you can open")
    parser.add_argument("--into", metavar="FOLDER", required=True, help="where its files go; nothing is overwritten")
    parser.add_argument(
        "--unconfined",
        action="store_true",
        help="take also a VM whose file says how its QEMU is confined ([isolation])",
    )
    parser.add_argument("--json", action="store_true", help="print JSON (cvm.receive/1)")


def run(args: Namespace) -> int:
    """Take one VM; 0 when it is here and its launch, if any, went well."""
    from launcher.service.moving_in import receive

    target = parse_target(args.at)
    if target.path is None:
        raise PlanRefused(
            f"receive: got {args.at[:80]!r}, want unix:/path",
            code="move.address",
            hint="ssh -L carries one between hosts",
        )
    name, result = receive(target, args.into, _say, unconfined=args.unconfined)
    outcome = result.get("outcome", "ran")
    if outcome not in ("attested", "ran"):
        kind = GuestDenied if outcome == "refused" else GuestFailed
        raise kind(f"{name}: it is here, but: {safe_text(str(result.get('reason')), 1000)}", hint=f"cvm logs {name}")
    if args.json:
        sys.stdout.write(json.dumps({"schema": "cvm.receive/1", "name": name, "launch": result}) + "\n")
    else:
        sys.stdout.write(f"{name}: {result.get('state', 'stopped, as it was')}\n")
    return 0


def _say(line: str) -> None:
    sys.stderr.write(safe_text(line, 4096) + "\n")
    sys.stderr.flush()
