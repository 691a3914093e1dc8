"""``attest restore``: a backup into an empty place."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

DESCRIPTION = (
    "Restore a backup into a new folder and an empty database, whole or not at all. The audit log in it must extend "
    "what was signed last: give the newest log.seen, or accept that records may be lost."
)


def add_arguments(parser: ArgumentParser) -> None:
    """Archive, target, keys, and what is known about the log that was lost."""
    from attest.cli.common import add_json

    add_archive(parser)
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="the folder to make")
    parser.add_argument("--database", metavar="URL|FILE", help="restore there, not where the settings say")
    parser.add_argument("--seen", type=Path, metavar="FILE", help="log.seen of the lost service: what was signed last")
    parser.add_argument(
        "--accept-rollback", action="store_true", help="records after the backup are or may be lost; goes on record"
    )
    parser.add_argument("--reason", metavar="TEXT", help="why, with --accept-rollback")
    add_json(parser)


def add_archive(parser: ArgumentParser) -> None:
    """The archive and the master key it opens with; ``attest drill`` takes them too."""
    parser.add_argument("archive", type=Path, metavar="FILE", help="what attest backup wrote")
    parser.add_argument(
        "--master-key", type=Path, required=True, metavar="FILE", help="a copy of the service's master key file"
    )


def run(args: Namespace) -> int:
    """Restore; 0."""
    from attest.broker.restore import Wanted, restore
    from attest.cli.common import by_local_user, print_json, print_text, read_file
    from policy.errors import ConfigInvalid

    if args.accept_rollback != bool(args.reason):
        raise ConfigInvalid("--accept-rollback", ("want it together with --reason TEXT, or neither",))
    seen = None if args.seen is None else read_file(args.seen, "log.seen", 64 * 1024)
    wanted = Wanted(args.archive, args.master_key, args.to, args.database, seen, args.reason)
    found = restore(wanted, by_local_user())
    if args.json:
        done = {"config": str(found.config), "records": found.records, "lost": found.lost}
        missed = [{"path": path, "why": why} for path, why in found.left_out]
        print_json({"schema": "attest.restore/1", **done, "left_out": missed})
        return 0
    lost = "unknown" if found.lost is None else str(found.lost)
    print_text(f"{found.config.parent}: restored, {found.records} audit records, lost: {lost}")
    print_text(*(f"  was not in the backup: {path}: {why}" for path, why in found.left_out))
    if found.lost != 0:
        print_text(
            "look at what may have been undone: attest policy list, attest reference list, releases that count (once)"
        )
    print_text(f"next: put the master key in place, then attest serve {found.config}")
    return 0
