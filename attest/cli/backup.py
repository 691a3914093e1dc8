"""``attest backup``: the service in one encrypted file."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

DESCRIPTION = (
    "Write database, settings, policy, keys and collateral of a service to one file, encrypted under its master key, "
    "while it goes on running. The master key itself is not in it: keep a copy apart. Says what else is not."
)


def add_arguments(parser: ArgumentParser) -> None:
    """The file to write."""
    from attest.cli.common import add_config, add_json

    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="a new file (mode 0600)")
    add_config(parser)
    add_json(parser)


def run(args: Namespace) -> int:
    """Write it; 0."""
    from dataclasses import asdict

    from attest.broker.backup import make_backup
    from attest.cli.common import by_local_user, print_json, print_text, settings_of

    made = make_backup(settings_of(args), args.config, args.output, by_local_user())
    if args.json:
        missed = [asdict(entry) for entry in made.left_out]
        found = {"file": str(made.path), "bytes": made.size, "records": made.records, "files": list(made.files)}
        print_json({"schema": "attest.backup.made/1", **found, "left_out": missed})
        return 0
    print_text(f"{made.path}: {made.size} bytes, {made.records} audit records, {len(made.files)} files")
    print_text(*(f"  not in it: {entry.path}: {entry.why}" for entry in made.left_out))
    return 0
