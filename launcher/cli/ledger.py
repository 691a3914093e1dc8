"""``cvm ledger``: every launch of a VM."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from typing import Any

from launcher.core.text import safe_text
from launcher.errors import NotFound, StateUnusable
from launcher.io.ledger import read_ledger
from launcher.io.statedir import existing, state_root

DESCRIPTION = """Show every launch of a VM on this host and how it ended. Each line of the file carries the
digest of the line before it; a changed or missing line is reported. Removed with the VM (cvm stop --forget)."""
EPILOG = "example: cvm ledger web-1 --json\nexit status: 0 shown, 8 the ledger is broken, 10 no such VM"


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("name", metavar="VM", nargs="?", help="its name (cvm ps)")
    parser.add_argument(
        "--host-key", action="store_true",
        help="print the public key that signs this host's launches, made if there is none, for `attest host add`",
    )  # fmt: skip
    parser.add_argument(
        "--signed", action="store_true",
        help="print the signed record of a measured VM's last launch, for `attest host record`",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON (cvm.ledger/1)")


def run(args: Namespace) -> int:
    """Print; 0."""
    if args.host_key:
        from launcher.io.launch_record import host_key

        sys.stdout.write(host_key().decode("ascii"))
        return 0
    if args.name is None:
        raise NotFound("ledger: want a VM's name, or --host-key", hint="cvm ps")
    if args.signed:
        return _signed(args.name)
    found = read_ledger(existing(state_root(), args.name))
    if args.json:
        document = {"schema": "cvm.ledger/1", "name": args.name, "head": found.head, "entries": list(found.entries)}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        sys.stdout.write("".join(safe_text(_row(entry), 400) + "\n" for entry in found.entries))
        sys.stdout.write(f"{len(found.entries)} entries, unbroken to {found.head}\n")
    return 0


def _signed(name: str) -> int:
    from launcher.io.launch_record import RECORD_FILE

    try:
        document = existing(state_root(), name).read_json(RECORD_FILE)
    except StateUnusable:
        raise NotFound(
            f"VM {name}: no signed record of its last launch",
            hint="records are signed once `cvm ledger --host-key` has made a key, for measured VMs only",
        ) from None
    sys.stdout.write(json.dumps(document, indent=1) + "\n")
    return 0


def _row(entry: dict[str, Any]) -> str:
    head = f"{entry.get('time')}  {entry.get('event')}"
    if entry.get("event") == "launch":
        digest = entry.get("expected_measurement") or "none"
        return (
            f"{head}  restart {entry.get('restarts')}  config {str(entry.get('config_sha256'))[:16]}…  digest {digest}"
        )
    return f"{head}  {entry.get('outcome', 'failed')}  {entry.get('reason')}"
