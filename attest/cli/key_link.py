"""``attest key link``: a resource whose value is kept in the KV engine of OpenBao or Vault."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attest.cli.remote import Request


def add_link(verb: Callable[[str, str], ArgumentParser]) -> None:
    """``verb`` makes a parser with PATH, where to ask, and ``--json``."""
    link = verb("link", "a resource whose value is kept in OpenBao or Vault (KV version 2), read at each release")
    link.add_argument("kv_path", metavar="KV-PATH", help="where it is in the engine, such as shop/database")
    link.add_argument("--field", required=True, metavar="NAME", help="which field of the secret")
    link.add_argument("--mount", default="secret", metavar="NAME", help="where the engine is mounted (secret)")
    link.add_argument("--kv-version", type=int, metavar="N", help="this version only (the newest at each release)")
    link.add_argument("--base64", action="store_true", help="the field is base64 of the value")
    link.add_argument("--replace", action="store_true", help="make a new version if the resource exists")
    link.add_argument(
        "--for", dest="only_for", action="append", metavar="NAME", help="only for guests that match this value"
    )


def link_request(args: Namespace) -> Request:
    """The same of a service."""
    from attest.cli.remote import Request
    from policy.vocab import ResourcePath

    query = {"kv-path": args.kv_path, "field": args.field, "mount": args.mount}
    query |= {name: "1" for name in ("base64", "replace") if getattr(args, name)}
    if args.kv_version is not None:
        query["kv-version"] = str(args.kv_version)
    if args.only_for:
        query["for"] = ",".join(args.only_for)
    return Request("POST", f"/cvm/v0/link/{ResourcePath.parse(args.path)}", query)


def link(args: Namespace) -> dict[str, Any]:
    """Store the place, once the value can be read there."""
    from attest.broker.kv_link import KvLink, link_resource
    from attest.broker.opening import open_database, vault_of
    from attest.cli.common import by_local_user, settings_of
    from attest.keys.master import load_master_keys
    from policy.vocab import ResourcePath

    settings = settings_of(args)
    wanted = KvLink(
        ResourcePath.parse(args.path),
        args.kv_path,
        args.field,
        args.mount,
        args.kv_version,
        args.base64,
        args.replace,
        None if args.only_for is None else tuple(args.only_for),
    )
    keys = load_master_keys(settings.master_key_file)
    return link_resource(open_database(settings), keys, vault_of(settings), wanted, by_local_user())
