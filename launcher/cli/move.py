"""``cvm move``: a VM goes to another host, stopped."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace

from launcher.core.migration import parse_target
from launcher.core.text import safe_text
from launcher.errors import GuestDenied, GuestFailed, PlanRefused
from policy.errors import CvmError

DESCRIPTION = """Move a VM to where `cvm receive` waits: its VM file and boot files go there, it is stopped, its disks
follow (or are found there: shared storage), each by digest, and it is started there. A protected VM
attests again before it gets its key. Here it cannot start any more until it is released."""
EPILOG = """example: ssh -NL /run/cvm-b.sock:/run/cvm-in.sock host-b &     cvm move web-1 unix:/run/cvm-b.sock
exit status: 0 moved, 7 moved and refused by the service, 9 not moved, or moved and did not start,
10 no such VM, or in no state for it"""


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("name", metavar="VM", help="its name (cvm ps)")
    parser.add_argument("to", metavar="WHERE", nargs="?", help="unix:/path, where cvm receive waits (through ssh -L)")
    parser.add_argument("--release", action="store_true", help="it does not run there and never will: it is ours again")
    parser.add_argument("--seconds", type=float, default=120.0, metavar="N", help="to end in, after the power button")
    parser.add_argument("--json", action="store_true", help="print JSON (cvm.move/1)")


def run(args: Namespace) -> int:
    """Move or release it; 0 when all went well."""
    from launcher.service.moving_out import move, release

    if (args.to is None) != args.release:
        raise CvmError("cvm move: want either WHERE or --release", code="usage")
    if args.release:
        release(args.name)
        return _done(args, "released: it may start here again", {})
    target = parse_target(args.to)
    if target.path is None:
        raise PlanRefused(
            f"move: got {args.to[:80]!r}, want unix:/path",
            code="move.address",
            hint="ssh -L carries a unix socket to a host",
        )
    result = move(args.name, target, seconds=args.seconds, say=_say)
    outcome = result.get("outcome", "ran")
    if outcome in ("attested", "ran"):
        words = (
            {"attested": ", and attested there", "ran": ", and runs there"}[outcome]
            if result
            else ", stopped as it was"
        )
        return _done(args, f"moved to {args.to}{words}", result)
    kind = GuestDenied if outcome == "refused" else GuestFailed
    raise kind(f"{args.name}: moved to {args.to}, but there: {safe_text(str(result.get('reason')), 1000)}")


def _done(args: Namespace, words: str, result: dict[str, object]) -> int:
    if args.json:
        sys.stdout.write(
            json.dumps({"schema": "cvm.move/1", "name": args.name, "said": words, "launch": result}) + "\n"
        )
    else:
        sys.stdout.write(f"{args.name}: {words}\n")
    return 0


def _say(line: str) -> None:
    sys.stderr.write(safe_text(line, 4096) + "\n")
