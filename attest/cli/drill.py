"""``attest drill``: whether a backup would help, tried without touching anything."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

DESCRIPTION = (
    "Restore a backup into a temporary folder, decide its last accepted guest again, open every stored key, erase them "
    "all, start the service on a loopback port, and attest to it as a guest made for the drill, which gets a key made "
    "for the drill. Nothing else is released, nothing is left. Says how long each step took."
)


def add_arguments(parser: ArgumentParser) -> None:
    """The archive and the master key; ``--database`` for PostgreSQL."""
    from attest.cli.common import add_json
    from attest.cli.restore import add_archive

    add_archive(parser)
    parser.add_argument(
        "--database", metavar="URL", help="drill into this empty PostgreSQL database (default: a SQLite file); it stays"
    )
    add_json(parser)


def run(args: Namespace) -> int:
    """The drill; 0 when the service gave the drill's guest its key."""
    from attest.cli.common import by_local_user, print_json, print_table, print_text
    from attest.cli.drill_steps import drill

    done = drill(args.archive, args.master_key, args.database, by_local_user())
    if args.json:
        steps = [{"step": step.name, "seconds": round(step.seconds, 3), "found": step.found} for step in done]
        print_json({"schema": "attest.drill/1", "steps": steps, "seconds": round(sum(s.seconds for s in done), 3)})
        return 0
    print_table([(step.name, f"{step.seconds:.2f} s", step.found) for step in done])
    print_text(
        f"the backup works: {sum(step.seconds for step in done):.1f} s; no stored key was released, nothing is left"
    )
    return 0
