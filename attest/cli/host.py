"""``attest host``: hosts whose word about launches is put on record."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attest.cli.collateral_actions import Fetched

DESCRIPTION = "Register hosts by their launch key, and put their signed launch records into the audit log."


def add_arguments(parser: ArgumentParser) -> None:
    """``add``, ``list``, ``retire``, ``record``."""
    from attest.cli.common import add_config, add_json

    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = verbs.add_parser("add", help="register a host's public key", allow_abbrev=False)
    add.add_argument("name", metavar="NAME", help="how records name the host")
    add.add_argument("key", type=Path, metavar="KEY", help="its public key, PEM, Ed25519 or P-384")
    add.add_argument(
        "--evidence",
        type=Path,
        metavar="FILE",
        help="report or quote of a guest there: fetch what its guests will need",
    )
    add.add_argument(
        "--root", type=Path, action="append", default=[], metavar="CERT", help="also trust this root (test PKIs)"
    )
    listing = verbs.add_parser("list", help="list hosts, retired ones too", allow_abbrev=False)
    retire = verbs.add_parser("retire", help="believe a host no more", allow_abbrev=False)
    retire.add_argument("name", metavar="NAME", help="the host")
    record = verbs.add_parser("record", help="put a signed launch record into the audit log", allow_abbrev=False)
    record.add_argument("file", type=Path, metavar="FILE", help="a cvm.launch-record/1 statement in its DSSE envelope")
    for child in (add, listing, retire, record):
        add_config(child)
        add_json(child)


def run(args: Namespace) -> int:
    """One of the four; 0."""
    return {"add": _add, "list": _list, "retire": _retire, "record": _record}[args.action](args)


def _add(args: Namespace) -> int:
    from attest.broker.hosts import add_host
    from attest.broker.opening import open_database
    from attest.cli.collateral_actions import print_fetched
    from attest.cli.common import by_local_user, print_json, print_text, read_file, settings_of

    key = read_file(args.key, "public key")
    database = open_database(settings_of(args))
    done = None if args.evidence is None else _prefetch(args)  # first: what is no evidence registers nothing
    host = add_host(database, args.name, key, by_local_user())
    if args.json:
        found = {} if done is None else {"collateral": {"cache": done.cache, "items": done.items}}
        print_json({"schema": "attest.host.add/1", "name": host.name, "key_id": host.key_id, **found})
        return 0 if done is None else done.exit_code
    print_text(f"host {host.name} registered, key {host.key_id}")
    if done is None:
        return 0
    print_fetched(done)
    return done.exit_code


def _prefetch(args: Namespace) -> Fetched:
    """As ``attest collateral fetch`` would for the same settings."""
    from attest.cli.collateral import add_arguments as fetch_arguments
    from attest.cli.collateral_actions import fetched

    parser = ArgumentParser()
    fetch_arguments(parser)
    roots = [word for root in args.root for word in ("--root", str(root))]
    return fetched(parser.parse_args(["fetch", "--config", str(args.config), *roots, "--", str(args.evidence)]))


def _list(args: Namespace) -> int:
    from attest.audit.canonical import rfc3339
    from attest.broker.opening import open_database
    from attest.cli.common import print_json, print_table, settings_of
    from attest.store import hosts

    with open_database(settings_of(args)).read() as tx:
        found = hosts.every(tx)
    if args.json:
        listed = [
            {
                "name": host.name,
                "key_id": host.key_id,
                "added": rfc3339(host.added),
                "added_by": host.added_by,
                "retired": None if host.retired is None else rfc3339(host.retired),
            }
            for host in found
        ]
        print_json({"schema": "attest.host.list/1", "hosts": listed})
        return 0
    rows = [("NAME", "KEY", "ADDED", "BY", "STATE")]
    for host in found:
        state = "in force" if host.retired is None else f"retired {rfc3339(host.retired)}"
        rows.append((host.name, host.key_id[:16], rfc3339(host.added), host.added_by, state))
    print_table(rows)
    return 0


def _retire(args: Namespace) -> int:
    from attest.broker.hosts import retire_host
    from attest.broker.opening import open_database
    from attest.cli.common import by_local_user, print_json, print_text, settings_of

    retire_host(open_database(settings_of(args)), args.name, by_local_user())
    if args.json:
        print_json({"schema": "attest.host.retire/1", "name": args.name})
    else:
        print_text(f"host {args.name} retired: its launches are not believed any more")
    return 0


def _record(args: Namespace) -> int:
    from attest.broker.launch_statement import MAX_LAUNCH
    from attest.broker.launches import record_launch
    from attest.broker.opening import open_database
    from attest.cli.common import by_local_user, print_json, print_text, read_file, settings_of

    data = read_file(args.file, "launch record", MAX_LAUNCH)
    launched = record_launch(open_database(settings_of(args)), data, by_local_user())
    if args.json:
        print_json(
            {"schema": "attest.host.record/1", "record": launched.number, "host": launched.host, "new": launched.new}
        )
    else:
        known = "" if launched.new else ", on record already"
        told = "told the end of" if launched.statement.ended else "launched"
        print_text(f"record {launched.number}: {launched.host} {told} {launched.statement.vm}{known}")
    return 0
