"""``attest host``: hosts whose word about launches is put on record."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attest.cli.collateral_actions import Fetched
    from attest.cli.remote import Request

DESCRIPTION = "Register hosts by their launch key, and put their signed launch records into the audit log."


def add_arguments(parser: ArgumentParser) -> None:
    """``add``, ``list``, ``retire``, ``record``."""
    from attest.cli.common import add_json
    from attest.cli.remote import add_where

    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = verbs.add_parser("add", help="register a host's public key", allow_abbrev=False)
    add.add_argument("name", metavar="NAME", help="how records name the host")
    add.add_argument("host_key", type=Path, metavar="KEY", help="its public key, PEM, Ed25519 or P-384")
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
        add_where(child)
        add_json(child)


def run(args: Namespace) -> int:
    """One of the four, here or over the service; 0, or what fetching for ``--evidence`` ended with."""
    from attest.cli.common import print_json
    from attest.cli.remote import answer

    ask, do, show = {
        "add": (_add_request, _add, _print_added),
        "list": (_list_request, _list, _print_list),
        "retire": (_retire_request, _retire, _print_retired),
        "record": (_record_request, _record, _print_recorded),
    }[args.action]
    wanted = args.action == "add" and args.evidence is not None
    fetched = _prefetch(args) if wanted else None  # first: what is no evidence registers nothing
    found = do(args) if args.service is None else answer(args, ask(args))
    if args.json:
        more = {} if fetched is None else {"collateral": {"cache": fetched.cache, "items": fetched.items}}
        print_json({"schema": f"attest.host.{args.action}/1", **found, **more})
    else:
        show(found)
    return 0 if fetched is None else _tell(args, fetched)


def _tell(args: Namespace, fetched: Fetched) -> int:
    """What became of it, for people; its exit code."""
    from attest.cli.collateral_actions import print_fetched

    if not args.json:
        print_fetched(fetched)
    return fetched.exit_code


def _prefetch(args: Namespace) -> Fetched:
    """As ``attest collateral fetch`` would with the same settings, or of the same service."""
    from attest.cli.collateral import add_arguments as fetch_arguments
    from attest.cli.collateral_actions import fetched

    parser = ArgumentParser()
    fetch_arguments(parser)
    roots = [word for root in args.root for word in ("--root", str(root))]
    there = {
        "--service": args.service,
        "--service-ca": args.service_ca,
        "--certificate": args.certificate,
        "--key": args.key,
        "--token-file": args.token_file,
    }
    where = ["--config", str(args.config)] if args.service is None else []
    where += [word for name, value in there.items() if value is not None for word in (name, str(value))]
    return fetched(parser.parse_args(["fetch", *where, *roots, "--", str(args.evidence)]))


def _add_request(args: Namespace) -> Request:
    from attest.cli.common import read_file
    from attest.cli.remote import Request

    return Request("POST", _path(args), body=read_file(args.host_key, "public key"))


def _add(args: Namespace) -> dict[str, Any]:
    from attest.broker.hosts import add_host
    from attest.broker.opening import open_database
    from attest.cli.common import by_local_user, read_file, settings_of

    key = read_file(args.host_key, "public key")
    host = add_host(open_database(settings_of(args)), args.name, key, by_local_user())
    return {"name": host.name, "key_id": host.key_id}


def _print_added(found: dict[str, Any]) -> None:
    from attest.cli.common import print_text

    print_text(f"host {found['name']} registered, key {found['key_id']}")


def _list_request(args: Namespace) -> Request:
    from attest.cli.remote import Request

    return Request("GET", "/cvm/v0/host")


def _list(args: Namespace) -> dict[str, Any]:
    from attest.broker.hosts import host_json
    from attest.broker.opening import open_database
    from attest.cli.common import settings_of
    from attest.store import hosts

    with open_database(settings_of(args)).read() as tx:
        return {"hosts": [host_json(host) for host in hosts.every(tx)]}


def _print_list(found: dict[str, Any]) -> None:
    from attest.cli.common import print_table

    rows = [("NAME", "KEY", "ADDED", "BY", "STATE")]
    for host in found["hosts"]:
        state = "in force" if host["retired"] is None else f"retired {host['retired']}"
        rows.append((host["name"], host["key_id"][:16], host["added"], host["added_by"], state))
    print_table(rows)


def _retire_request(args: Namespace) -> Request:
    from attest.cli.remote import Request

    return Request("DELETE", _path(args))


def _retire(args: Namespace) -> dict[str, Any]:
    from attest.broker.hosts import retire_host
    from attest.broker.opening import open_database
    from attest.cli.common import by_local_user, settings_of

    retire_host(open_database(settings_of(args)), args.name, by_local_user())
    return {"name": args.name, "retired": True}


def _print_retired(found: dict[str, Any]) -> None:
    from attest.cli.common import print_text

    print_text(f"host {found['name']} retired: its launches are not believed any more")


def _record_request(args: Namespace) -> Request:
    from attest.broker.launch_statement import MAX_LAUNCH
    from attest.cli.common import read_file
    from attest.cli.remote import Request

    return Request("POST", "/cvm/v0/launch-record", body=read_file(args.file, "launch record", MAX_LAUNCH))


def _record(args: Namespace) -> dict[str, Any]:
    from attest.broker.launch_statement import MAX_LAUNCH
    from attest.broker.launches import launched_json, record_launch
    from attest.broker.opening import open_database
    from attest.cli.common import by_local_user, read_file, settings_of

    data = read_file(args.file, "launch record", MAX_LAUNCH)
    return launched_json(record_launch(open_database(settings_of(args)), data, by_local_user()))


def _print_recorded(found: dict[str, Any]) -> None:
    from attest.cli.common import print_text

    known = "" if found["new"] else ", on record already"
    told = "told the end of" if found["ended"] else "launched"
    print_text(f"record {found['record']}: {found['host']} {told} {found['vm']}{known}")


def _path(args: Namespace) -> str:
    from urllib.parse import quote

    return f"/cvm/v0/host/{quote(args.name, safe='')}"
