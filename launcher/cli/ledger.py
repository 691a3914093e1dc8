"""``cvm ledger``: every launch of a VM."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace

from launcher.core.text import safe_text
from launcher.errors import NotFound, StateUnusable
from launcher.io.ledger import read_ledger
from launcher.io.outbox import acknowledged
from launcher.io.statedir import existing, state_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DESCRIPTION = """Show every launch of a VM on this host and how it ended. Each line of the file carries the
digest of the line before it; a changed or missing line is reported. Removed with the VM (cvm stop --forget)."""
EPILOG = """examples: cvm ledger web-1 --json
          cvm ledger --send
exit status: 0 shown or sent, 3 the service refuses, 8 the ledger is broken or the service does not answer,
  10 no such VM"""


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
    parser.add_argument(
        "--send", metavar="URL", nargs="?", const="",
        help="send signed records that no service has acknowledged yet; URL, with --ca: where those go whose VM file "
        "names no service",
    )  # fmt: skip
    parser.add_argument("--ca", metavar="PEM", help="CA certificate of the service at URL")
    parser.add_argument("--json", action="store_true", help="print JSON (cvm.ledger/1)")


def run(args: Namespace) -> int:
    """Print; 0."""
    if args.host_key:
        from launcher.io.launch_record import host_key

        sys.stdout.write(host_key().decode("ascii"))
        return 0
    if args.send is not None:
        return _send(args)
    if args.name is None:
        raise NotFound("ledger: want a VM's name, --host-key or --send", hint="cvm ps")
    if args.signed:
        return _signed(args.name)
    found = read_ledger(existing(state_root(), args.name))
    sent = acknowledged(args.name)
    if args.json:
        document = {"schema": "cvm.ledger/1", "name": args.name, "head": found.head, "entries": list(found.entries)}
        document["acknowledged"] = [entry._asdict() for entry in sent]
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        sys.stdout.write("".join(safe_text(_row(entry), 400) + "\n" for entry in found.entries))
        sys.stdout.write(f"{len(found.entries)} entries, unbroken to {found.head}\n")
        sys.stdout.write("".join(f"{entry.time}  record {entry.record} of {entry.service}\n" for entry in sent))
    return 0


def _send(args: Namespace) -> int:
    """0 when nothing waits any more, else the exit status of the first failure."""
    from launcher.exits import exit_status
    from launcher.service.reporting import destination, send_waiting

    report = send_waiting(destination(args.send, args.ca))
    if args.json:
        left = [
            {"vm": found.vm, "sha256": found.sha256, "code": error.code, "reason": error.message}
            for found, error in report.left
        ]
        document = {"schema": "cvm.ledger.send/1", "sent": [entry._asdict() for entry in report.sent], "left": left}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        for entry in report.sent:
            sys.stdout.write(safe_text(f"{entry.vm}: record {entry.record} of {entry.service}", 400) + "\n")
        for item in report.left:
            sys.stderr.write(safe_text(f"cvm: {item.statement.vm}: waits: {item.error.message}", 800) + "\n")
        sys.stdout.write(f"{len(report.sent)} sent, {len(report.left)} wait\n")
    return 0 if not report.left else exit_status(report.left[0].error)


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
        text = entry.get("init_data_digest")
        bound = "" if text is None else f"  init-data {str(text)[:16]}…"
        config = str(entry.get("config_sha256"))[:16]
        return f"{head}  restart {entry.get('restarts')}  config {config}…{bound}  digest {digest}"
    return f"{head}  {entry.get('outcome', 'failed')}  {entry.get('reason')}"
