"""``cvm import``: a VM file from a libvirt domain."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from launcher.config.libvirt import import_domain
from launcher.config.vm_toml import parse_vm
from launcher.config.xml import MAX_BYTES
from launcher.core.text import safe_text
from launcher.errors import VmConfigInvalid
from launcher.io.hashing import read_file

DESCRIPTION = """Read a libvirt domain (virsh dumpxml) and print a VM file. Everything that could not be carried
over is listed on standard error with the reason, and so is what the file still lacks."""
EPILOG = """example: virsh dumpxml web-1 > web-1.xml; cvm import web-1.xml > web-1.toml
exit status: 0 printed, 3 the file cannot be read, 5 not a libvirt domain"""


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("domain", metavar="DOMAIN.xml", help="libvirt's description of the VM")
    parser.add_argument("--json", action="store_true", help="print JSON (cvm.import/1)")


def run(args: Namespace) -> int:
    """Print the file; 0."""
    found = import_domain(read_file(args.domain, "domain", MAX_BYTES))
    lacks = _problems(found.toml, Path(args.domain).stem)
    if args.json:
        document = {
            "schema": "cvm.import/1",
            "toml": found.toml,
            "not_carried_over": [item._asdict() for item in found.left],
            "lacks": lacks,
        }
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return 0
    sys.stdout.write(found.toml)
    sys.stdout.flush()
    for item in found.left:
        sys.stderr.write(f"not carried over: {safe_text(item.where)}: {safe_text(item.why)}\n")
    for problem in lacks:
        sys.stderr.write(f"still lacks: {safe_text(problem)}\n")
    return 0


def _problems(text: str, name: str) -> list[str]:
    """What the decoder says about the file as it is."""
    try:
        parse_vm(text.encode("utf-8", "surrogatepass"), name)
    except VmConfigInvalid as exc:
        return list(exc.problems)
    return []
