"""``attest db``: are the database's tables those this program wants, and making them so."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

DESCRIPTION = (
    "Show or upgrade the database's tables. Stop every replica before an upgrade, and copy a PostgreSQL database with "
    "pg_dump; of a SQLite file a copy is made beside it."
)


def add_arguments(parser: ArgumentParser) -> None:
    """``status``, ``upgrade``."""
    from attest.cli.common import add_config, add_json

    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    status = verbs.add_parser("status", help="its revision, and what an upgrade would run", allow_abbrev=False)
    upgrade = verbs.add_parser("upgrade", help="bring it to this program's revision", allow_abbrev=False)
    for child in (status, upgrade):
        add_config(child)
        add_json(child)


def run(args: Namespace) -> int:
    """One of the two; status: 10 where an upgrade is due."""
    return _status(args) if args.action == "status" else _upgrade(args)


def _status(args: Namespace) -> int:
    from attest.cli import OK, STATE
    from attest.cli.common import settings_of
    from attest.store.engine import Database
    from attest.store.migrate import status

    found = status(Database(settings_of(args).database))
    _print(args, "attest.db.status/1", {"revision": found.found, "wanted": found.wanted, "pending": found.pending})
    return STATE if found.pending else OK


def _upgrade(args: Namespace) -> int:
    from attest.cli import OK
    from attest.cli.common import settings_of
    from attest.store.engine import Database
    from attest.store.migrate import upgrade

    before, copy = upgrade(Database(settings_of(args).database))
    found = {"from": before.found, "revision": before.wanted, "ran": before.pending}
    _print(args, "attest.db.upgrade/1", {**found, "copy": None if copy is None else str(copy)})
    return OK


def _print(args: Namespace, schema: str, found: dict[str, object]) -> None:
    from attest.cli.common import print_json, print_table

    if args.json:
        print_json({"schema": schema, **found})
    else:
        rows = [(name, " ".join(value) if isinstance(value, tuple) else value) for name, value in found.items()]
        print_table([(name, "-" if value in (None, "") else value) for name, value in rows])
