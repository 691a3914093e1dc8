"""``attest key``: the resources guests may get. Values come from standard input or a descriptor, never from argv."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

DESCRIPTION = "Store or list resources (disk keys and other secrets). A value is read from standard input."


def add_arguments(parser: ArgumentParser) -> None:
    """``put``, ``list``, ``delete``, and those of :mod:`attest.cli.key_lifecycle`."""
    from attest.cli.common import add_json
    from attest.cli.key_lifecycle import add_lifecycle
    from attest.cli.remote import add_where

    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    put = verbs.add_parser("put", help="store a value: attest key put default/web-1/root < key", allow_abbrev=False)
    put.add_argument("path", metavar="PATH", help="repository/type/tag")
    put.add_argument("--fd", type=int, default=0, metavar="N", help="read the value from this descriptor (0: stdin)")
    put.add_argument("--replace", action="store_true", help="make a new version if the resource exists")
    put.add_argument(
        "--for", dest="only_for", action="append", metavar="NAME", help="only for guests that match this value"
    )
    put.add_argument("--luks-header", metavar="FILE|SHA256", help="the LUKS2 header of the disk this key opens")
    delete = verbs.add_parser("delete", help="erase a resource", allow_abbrev=False)
    delete.add_argument("path", metavar="PATH", help="repository/type/tag")
    listing = verbs.add_parser("list", help="list resources, never values", allow_abbrev=False)
    listing.add_argument("--history", action="store_true", help="also versions that were replaced or erased")
    for child in (put, delete, listing):
        add_where(child)
        add_json(child)
    add_lifecycle(verbs)


def run(args: Namespace) -> int:
    """One of them; 0."""
    from attest.cli import key_lifecycle
    from attest.cli.remote import KEY, asked

    show = _print_list if args.action == "list" else None
    if args.action in KEY and asked(args, KEY, "key", args.action, show):
        return 0
    return {"put": _put, "delete": _delete, "list": _list}.get(args.action, key_lifecycle.run)(args)


def _put(args: Namespace) -> int:
    import os

    from attest.broker.opening import open_database
    from attest.broker.operations import MAX_SECRET, NewResource, put_resource
    from attest.cli.common import by_local_user, print_json, print_text, settings_of
    from attest.cli.key_disk import digest_of
    from attest.keys.master import load_master_keys
    from policy.secret import SecretBytes
    from policy.vocab import ResourcePath

    path, settings = ResourcePath.parse(args.path), settings_of(args)
    with os.fdopen(args.fd, "rb", closefd=False) as source:
        value = SecretBytes(source.read(MAX_SECRET + 1))
    only_for = None if args.only_for is None else tuple(args.only_for)
    header = None if args.luks_header is None else digest_of(args.luks_header)
    new = NewResource(path, value, replace=args.replace, only_for=only_for, luks_header=header)
    keys = load_master_keys(settings.master_key_file)
    version = put_resource(open_database(settings), keys, new, by_local_user())
    value.wipe()
    if args.json:
        print_json({"schema": "attest.key.put/1", "path": path, "version": version})
    else:
        print_text(f"{path} version {version} stored")
    return 0


def _delete(args: Namespace) -> int:
    from attest.broker.opening import open_database
    from attest.broker.operations import delete_resource
    from attest.cli.common import by_local_user, print_json, print_text, settings_of
    from policy.vocab import ResourcePath

    path = ResourcePath.parse(args.path)
    version = delete_resource(open_database(settings_of(args)), path, by_local_user())
    if args.json:
        print_json({"schema": "attest.key.delete/1", "path": path, "version": version})
    else:
        print_text(f"{path} version {version} erased")
    return 0


def _list(args: Namespace) -> int:
    from attest.broker.opening import open_database
    from attest.broker.views import secret_json
    from attest.cli.common import print_json, settings_of
    from attest.store import secrets

    with open_database(settings_of(args)).read() as tx:
        found = [secret_json(entry) for entry in secrets.entries(tx, history=args.history)]
    if args.json:
        print_json({"schema": "attest.key.list/1", "resources": found})
    else:
        _print_list({"resources": found})
    return 0


def _print_list(found: dict[str, Any]) -> None:
    from attest.cli.common import print_table

    rows = [("PATH", "VERSION", "BYTES", "CREATED", "BY", "FOR", "STATE")]
    for entry in found["resources"]:
        meant = "any accepted guest" if entry["only_for"] is None else ", ".join(entry["only_for"])
        state = f"erased {entry['retired']}" if entry["retired"] else "waiting" if entry["pending"] else "in force"
        state += f", kept in {entry['source']}" if entry["source"] else ""
        rows.append(
            (entry["path"], entry["version"], entry["size"], entry["created"], entry["created_by"], meant, state)
        )
    print_table(rows)
