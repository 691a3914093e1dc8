"""``attest key link``: a resource whose value is kept in the KV engine of OpenBao or Vault."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any


def add_link(verb: Callable[[str, str], ArgumentParser]) -> None:
    """``verb`` makes a parser with PATH, ``--config`` and ``--json``."""
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


def link(args: Namespace) -> dict[str, Any]:
    """Store the place, once the value can be read there."""
    from attest.broker.opening import open_database, vault_of
    from attest.broker.operations import NewResource, put_resource
    from attest.cli.common import by_local_user, settings_of
    from attest.keys.errors import KeyFileRefused
    from attest.keys.kv import SOURCE, kv_place, read_secret
    from attest.keys.master import load_master_keys
    from policy.secret import SecretBytes
    from policy.vocab import ResourcePath

    settings, path = settings_of(args), ResourcePath.parse(args.path)
    place = kv_place(args.mount, args.kv_path, args.field, args.kv_version, encoded=args.base64)
    vault = vault_of(settings)
    if vault is None:
        raise KeyFileRefused("link: the settings name no server", hint='[keys] vault = "vault.toml" in attest.toml')
    read_secret(vault, place).wipe()
    only_for = None if args.only_for is None else tuple(args.only_for)
    new = NewResource(path, SecretBytes(place.to_bytes()), args.replace, only_for, source=SOURCE)
    keys = load_master_keys(settings.master_key_file)
    return {
        "path": path,
        "version": put_resource(open_database(settings), keys, new, by_local_user()),
        "kept": str(place),
    }
