"""``attest token``: is a token good, what does it stand for, end it; and the keys tokens are signed with."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from attest.settings import Settings

DESCRIPTION = (
    "Show, introspect or revoke attestation tokens, and rotate the keys they are signed with. "
    "introspect reads the token from standard input."
)


def add_arguments(parser: ArgumentParser) -> None:
    """``show``, ``introspect``, ``revoke``, ``keys``, ``rotate``."""
    from attest.cli.common import add_json
    from attest.cli.remote import add_where

    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = verbs.add_parser("show", help="what a token's id (jti) stands for", allow_abbrev=False)
    introspect = verbs.add_parser("introspect", help="whether the token on stdin counts now", allow_abbrev=False)
    revoke = verbs.add_parser("revoke", help="end a token and its session now", allow_abbrev=False)
    revoke.add_argument("--reason", required=True, metavar="TEXT", help="goes on record")
    for child in (show, revoke):
        child.add_argument("id", metavar="JTI", help="32 hexadecimal digits")
    keys = verbs.add_parser("keys", help="list the signing keys", allow_abbrev=False)
    rotate = verbs.add_parser("rotate", help="add a signing key and erase those no token needs", allow_abbrev=False)
    rotate.add_argument(
        "--after", type=int, default=600, metavar="SECONDS", help="when it begins to sign; published at once (600)"
    )
    rotate.add_argument("--alg", choices=("ES256", "ES384"), default="ES256", help="ES256 (P-256) or ES384 (P-384)")
    for child in (show, introspect, revoke, keys, rotate):
        add_where(child)
        add_json(child)


def run(args: Namespace) -> int:
    """One of the five; introspect: 7 for a token that does not count."""
    if getattr(args, "service", None) is not None:
        return _ask(args)
    actions = {"show": _show, "introspect": _introspect, "revoke": _revoke, "keys": _keys, "rotate": _rotate}
    return actions[args.action](args)


def _ask(args: Namespace) -> int:
    """The same of a service."""
    import sys

    from attest.broker.token import MAX_TOKEN
    from attest.cli import DENIED, OK
    from attest.cli.operator import ask_json

    if args.action == "keys":
        return _print_keys(args, ask_json(args, "GET", "/cvm/v0/token-key", {}))
    if args.action == "introspect":
        text = sys.stdin.read(MAX_TOKEN + 2).strip().encode()
        found = ask_json(args, "POST", "/cvm/v0/token/introspect", {}, text)
    elif args.action == "rotate":
        found = ask_json(args, "POST", "/cvm/v0/token-key", {"after": str(args.after), "alg": args.alg})
    else:
        method, query = ("GET", {}) if args.action == "show" else ("DELETE", {"reason": args.reason})
        found = ask_json(args, method, f"/cvm/v0/token/{quote(args.id, safe='')}", query)
    _print(args, found.pop("schema"), found)
    return OK if found.get("active", True) or args.action != "introspect" else DENIED


def _show(args: Namespace) -> int:
    from attest.broker.opening import open_database
    from attest.broker.tokens import find, token_json
    from attest.cli.common import settings_of

    return _print(args, "attest.token.show/1", dict(token_json(find(open_database(settings_of(args)), args.id))))


def _introspect(args: Namespace) -> int:
    import sys
    from datetime import UTC, datetime

    from attest.broker.opening import open_service
    from attest.broker.token import MAX_TOKEN
    from attest.broker.tokens import introspect
    from attest.cli import DENIED, OK
    from attest.cli.common import settings_of

    text = sys.stdin.read(MAX_TOKEN + 2).strip()
    found = introspect(open_service(settings_of(args)), text, datetime.now(UTC))
    _print(args, "attest.token.introspect/1", found)
    return OK if found["active"] else DENIED


def _revoke(args: Namespace) -> int:
    from attest.broker.opening import open_database
    from attest.broker.tokens import revoke, token_json
    from attest.cli.common import by_local_user, settings_of

    found = revoke(open_database(settings_of(args)), args.id, args.reason, by_local_user())
    return _print(args, "attest.token.revoke/1", dict(token_json(found)))


def _keys(args: Namespace) -> int:
    from attest.broker.opening import open_database, ring_of
    from attest.cli.common import settings_of
    from attest.keys.master import load_master_keys
    from attest.keys.ring import load_ring, ring_json

    settings = settings_of(args)
    if settings.token_key_file is not None:
        found = [ring_json(entry) | {"file": str(entry.path)} for entry in load_ring(settings.token_key_file)]
    else:
        ring = ring_of(settings, open_database(settings), load_master_keys(settings.master_key_file))
        found = list(map(ring_json, ring.entries()))
    return _print_keys(args, {"keys": found})


def _print_keys(args: Namespace, found: Mapping[str, Any]) -> int:
    from attest.cli.common import print_json, print_table

    if args.json:
        print_json({"schema": "attest.token.keys/1", **found})
    else:
        rows = [tuple(value or "-" for value in entry.values()) for entry in found["keys"]]
        print_table([("KID", "ALG", "SIGNS FROM", "FILE"), *rows])
    return 0


def _rotate(args: Namespace) -> int:
    from attest.broker.opening import open_database
    from attest.broker.token_keys import rotate, rotation_json
    from attest.cli.common import by_local_user, settings_of
    from attest.keys.master import load_master_keys
    from attest.keys.signing import ALGORITHMS

    settings = settings_of(args)
    if settings.token_key_file is not None:
        return _print(args, "attest.token.rotate/1", _rotate_files(args, settings, settings.token_key_file))
    keys, algorithm = load_master_keys(settings.master_key_file), ALGORITHMS[args.alg]
    done = rotate(open_database(settings), keys, args.after, algorithm, settings.token_lifetime, by_local_user())
    return _print(args, "attest.token.rotate/1", rotation_json(done))


def _rotate_files(args: Namespace, settings: Settings, folder: Path) -> dict[str, Any]:
    from datetime import UTC, datetime, timedelta

    from attest.broker.housekeeping import Housekeeper
    from attest.broker.opening import open_database, open_service
    from attest.broker.token_keys import MOST_SECONDS
    from attest.cli.common import by_local_user
    from attest.keys.ring import add_key, retire_keys, ring_json
    from attest.keys.signing import ALGORITHMS
    from policy.errors import ConfigInvalid

    now = datetime.now(UTC)
    if not 0 <= args.after <= MOST_SECONDS:
        raise ConfigInvalid("--after", (f"got {args.after}, want 0..{MOST_SECONDS}",))
    if not folder.is_dir():
        hint = f"name a folder in token_key_file and move the key there as {now:%Y%m%dT%H%M%SZ}.key"
        raise ConfigInvalid(str(folder), (f"one key file cannot overlap with the next: {hint}",))
    open_database(settings)  # a rotation nobody could put on record does not begin
    made = add_key(folder, now + timedelta(seconds=args.after), ALGORITHMS[args.alg])
    old = retire_keys(folder, now, settings.token_lifetime)
    Housekeeper.of(open_service(settings), settings).look_at_keys(now, by_local_user().actor)
    return {**ring_json(made), "file": str(made.path), "erased": [entry.key.kid for entry in old]}


def _print(args: Namespace, schema: str, found: Mapping[str, object]) -> int:
    from attest.cli.common import print_json, print_table

    if args.json:
        print_json({"schema": schema, **found})
    else:
        print_table([(name, "-" if value is None else value) for name, value in found.items()])
    return 0
