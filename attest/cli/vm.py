"""``attest vm``: what the service remembers about VMs, over the service, so that the record names who asked."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from urllib.parse import quote

DESCRIPTION = (
    "Forget where a VM was seen. Release conditions with `clones` bind a VM, by the name in its init-data, to the "
    "machine it came up on; after this it may come up on another one."
)


def add_arguments(parser: ArgumentParser) -> None:
    """``forget``."""
    from attest.cli.common import add_json
    from attest.cli.operator import add_operator

    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    forget = verbs.add_parser("forget", help="let a VM come up on another machine", allow_abbrev=False)
    forget.add_argument("name", metavar="NAME", help="the VM, as its init-data names it")
    forget.add_argument("--reason", required=True, metavar="TEXT", help="goes on record")
    add_operator(forget)
    add_json(forget)


def run(args: Namespace) -> int:
    """Forget it; 0. Raises NotFound where no launch of it is on record."""
    from attest.cli.common import print_json, print_text
    from attest.cli.operator import ask_json

    found = ask_json(args, "DELETE", f"/cvm/v0/vm/{quote(args.name, safe='')}", {"reason": args.reason})
    if args.json:
        print_json({"schema": "attest.vm.forget/1", **found})
    else:
        print_text(f"VM {found['vm']}: {found['launches']} launches forgotten")
    return 0
