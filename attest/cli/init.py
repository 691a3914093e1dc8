"""``attest init``: everything a new service needs, in one folder."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

DESCRIPTION = (
    "Make a folder with a service's authorities, certificates, keys, database, settings and policy. Nothing that "
    "exists is overwritten. Give ca.pem to guests and operator.pem, operator.key to operators."
)


def add_arguments(parser: ArgumentParser) -> None:
    """Folder, names, addresses, policy."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="the folder to make")
    parser.add_argument(
        "--policy",
        default="strict",
        metavar="NAME|FILE",
        help="strict, cloud-aws, cloud-gcp, cloud-azure, demo, or a file (strict)",
    )
    parser.add_argument("--emulated-root", metavar="HEX", help="SHA-256 of the emulated platform's root key, for demo")
    parser.add_argument(
        "--collateral", type=Path, metavar="DIR", help="take collateral from this folder, not from one inside DIR"
    )
    parser.add_argument("--listen", default="127.0.0.1:8443", metavar="HOST:PORT", help="for guests (127.0.0.1:8443)")
    parser.add_argument(
        "--admin-listen", default="127.0.0.1:8445", metavar="HOST:PORT", help="for operators (127.0.0.1:8445)"
    )
    parser.add_argument("--dashboard", metavar="HOST:PORT", help="serve the auditors' pages there (not at all)")
    parser.add_argument(
        "--dashboard-plain", action="store_true", help="over plain HTTP without a log-in; a loopback address only"
    )
    parser.add_argument("--name", action="append", default=[], metavar="HOST", help="a further name of the server")
    parser.add_argument("--operator", default="operator", metavar="NAME", help="name in the operator's certificate")
    parser.add_argument(
        "--database", metavar="URL", help="postgresql://USER@HOST/NAME, made and empty, instead of a file of its own"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: Namespace) -> int:
    """Make the folder; 0."""
    from datetime import UTC, datetime

    from attest.cli.common import print_json, print_text
    from attest.cli.new_service import NewService, make_service

    new = NewService(
        folder=args.folder,
        policy=args.policy,
        emulated_root=args.emulated_root,
        collateral=args.collateral,
        listen=args.listen,
        admin_listen=args.admin_listen,
        names=tuple(args.name),
        operator=args.operator,
        database=args.database,
        dashboard=args.dashboard,
        dashboard_plain=args.dashboard_plain,
    )
    made = make_service(new, datetime.now(UTC))
    if args.json:
        print_json({"schema": "attest.init/1", "folder": str(args.folder), "files": list(made)})
    else:
        print_text(*(f"{args.folder / name}" for name in made))
        print_text(f"next: attest serve {args.folder / 'attest.toml'}")
    return 0
