"""``cvm snapshot``: snapshots of a VM's disks."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime

from launcher.service.snapshots import snapshot

DESCRIPTION = """Snapshots of all of a VM's disks in one moment: inside qcow2 images; of raw disks in layers beside them
(--external); of a running ordinary VM with its memory (--ram), to which it goes back while it runs."""
EPILOG = """example: cvm snapshot create web-1 before-upgrade
exit status: 0 done, 3 a disk that keeps no snapshots, or memory of a confidential VM, 8 QEMU or qemu-img failed,
  10 no such VM or snapshot, or its state forbids it"""


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's own verbs."""
    verbs = parser.add_subparsers(dest="snapshot_verb", metavar="VERB", required=True)
    texts = {
        "create": "of a running VM (as after a power cut) or a stopped one",
        "list": "what there is",
        "delete": "forget one",
        "revert": "bring a stopped VM's disks back to it, or with --ram a running VM; what came later is lost",
    }
    for name, text in texts.items():
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("name", metavar="VM", help="its name (cvm ps)")
        if name != "list":
            verb.add_argument("snapshot", metavar="SNAPSHOT", help="its name")
        if name in ("create", "revert"):
            kinds = verb.add_mutually_exclusive_group()
            kinds.add_argument("--ram", action="store_true", help="of a running ordinary VM: with its memory")
            if name == "create":
                kinds.add_argument("--external", action="store_true", help="of raw disks: by layers over them")
        verb.add_argument("--json", action="store_true", help="print JSON (cvm.snapshot/1)")


def run(args: Namespace) -> int:
    """Do it, and list; 0."""
    name, ram = getattr(args, "snapshot", ""), getattr(args, "ram", False)
    external = getattr(args, "external", False)
    found, thoughts = snapshot(args.name, args.snapshot_verb, name, ram=ram, external=external)
    for text in thoughts:
        sys.stderr.write(f"WARNING: {text}\n")
    if args.json:
        rows = [item._asdict() for item in found]
        document = {"schema": "cvm.snapshot/1", "name": args.name, "snapshots": rows, "warnings": thoughts}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return 0
    for item in found:
        made = datetime.fromtimestamp(item.seconds, UTC).isoformat(timespec="seconds")
        sys.stdout.write(f"{item.disk:<20}  {item.name:<24}  {made}{_memory(item.memory)}\n")
    if not found:
        sys.stdout.write("no snapshots\n")
    return 0


def _memory(size: int) -> str:
    return f"  {size / (1 << 20):.0f} MiB of memory" if size else ""
