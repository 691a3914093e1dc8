"""``attest expiry``: what ends when, for people and for monitoring."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

DESCRIPTION = (
    "Show what ends when: certificates, AMD's and Intel's collateral, token keys, reference values, allowed "
    "advisories, approvals, and the items of bundle files. Exits 10 where something has ended, cannot be read, or ends "
    "within so many days."
)


def add_arguments(parser: ArgumentParser) -> None:
    """The bound, and bundles to look into."""
    from attest.cli.common import add_json
    from attest.cli.remote import add_where

    parser.add_argument("bundles", nargs="*", type=Path, metavar="BUNDLE", help="also these bundles of collateral")
    parser.add_argument("--within", type=int, default=7, metavar="DAYS", help="exit 10 for what ends within them (7)")
    add_where(parser)
    add_json(parser)


def run(args: Namespace) -> int:
    """0, or 10 where somebody has to act."""
    from datetime import UTC, datetime, timedelta

    from attest.cli import OK, STATE
    from attest.cli.expiry_items import print_rows, rows_of

    now = datetime.now(UTC)
    rows, limit = rows_of(args, now), now + timedelta(days=args.within)
    print_rows(args, rows)
    ends = [row["expires"] and datetime.fromisoformat(row["expires"]) for row in rows]
    return STATE if any(end is None or end <= limit for end in ends) else OK
