"""``attest key``: what happens to a resource after it is stored. Approvals go over the service, with a certificate."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from argparse import _SubParsersAction

PURPOSES = ("release", "change", "export")


def add_lifecycle(verbs: _SubParsersAction[ArgumentParser]) -> None:
    """The verbs beside ``put``, ``list`` and ``delete``."""
    from attest.cli.common import add_config, add_json
    from attest.cli.key_disk import add_disk_verbs
    from attest.cli.key_link import add_link
    from attest.cli.operator import add_operator
    from attest.cli.remote import KEY, add_where

    def verb(name: str, text: str, *, local: bool = True) -> ArgumentParser:
        child = verbs.add_parser(name, help=text, allow_abbrev=False)
        child.add_argument("path", metavar="PATH", help="repository/type/tag")
        (add_operator if not local else add_where if name in KEY else add_config)(child)
        add_json(child)
        return child

    generate = verb("generate", "store a random value that nobody has seen")
    generate.add_argument("--bytes", type=int, default=32, metavar="N", help="its size (32)")
    generate.add_argument("--replace", action="store_true", help="make a new version if the resource exists")
    verb("show", "a resource without its value, its conditions and approvals")
    conditions = verb("conditions", "put release conditions in force")
    conditions.add_argument("file", metavar="FILE", help="TOML; an empty file asks for nothing")
    for name, text in (("disable", "stop every release"), ("enable", "allow releases again")):
        verb(name, text).add_argument("--reason", required=True, metavar="TEXT", help="goes on record")
    add_disk_verbs(verb)
    add_link(verb)
    rewrap = verbs.add_parser(
        "rewrap", help="wrap every resource's key under the newest master key", allow_abbrev=False
    )
    token = verbs.add_parser("token-key", help="make a master key in a PKCS#11 token", allow_abbrev=False)
    token.add_argument("file", metavar="FILE", help="JSON with module, token, key, pin_file")
    transit = verbs.add_parser("transit-key", help="try a master key in OpenBao or Vault", allow_abbrev=False)
    transit.add_argument("file", metavar="FILE", help="JSON with connection, mount, key")
    add_json(transit)
    add_where(rewrap)
    add_json(rewrap)
    add_json(token)
    broken = verb("break-glass", "waive time, number, approval and clones for some minutes")
    broken.add_argument("--reason", required=True, metavar="TEXT", help="goes on record")
    broken.add_argument("--minutes", type=int, default=15, metavar="N", help="how long, at most 60 (15)")
    approve = verb("approve", "approve a release, a change of conditions or an export", local=False)
    approve.add_argument("--purpose", choices=PURPOSES, default="release", help="what is approved (release)")
    approve.add_argument("--minutes", type=int, default=60, metavar="N", help="until when it counts (60)")
    export = verb("export", "write the value to a new file, where enough operators approved", local=False)
    export.add_argument("--reason", required=True, metavar="TEXT", help="goes on record")
    export.add_argument("-o", "--output", required=True, metavar="FILE", help="made with mode 0600")


def run(args: Namespace) -> int:
    """One of them; 0."""
    from attest.cli.key_disk import luks_header, rotate
    from attest.cli.key_link import link

    actions: Mapping[str, Callable[[Namespace], dict[str, Any]]] = {
        "generate": _generate,
        "show": _show,
        "conditions": _conditions,
        "disable": _switch,
        "enable": _switch,
        "break-glass": _break_glass,
        "approve": _approve,
        "export": _export,
        "rewrap": _rewrap,
        "token-key": _token_key,
        "transit-key": _transit_key,
        "rotate": rotate,
        "luks-header": luks_header,
        "link": link,
    }
    return _print(args, actions[args.action](args))


def _generate(args: Namespace) -> dict[str, Any]:
    from attest.broker.opening import open_database
    from attest.broker.operations import generate_resource
    from attest.cli.common import by_local_user, settings_of
    from attest.keys.master import load_master_keys
    from policy.vocab import ResourcePath

    settings, path = settings_of(args), ResourcePath.parse(args.path)
    keys = load_master_keys(settings.master_key_file)
    version = generate_resource(open_database(settings), keys, path, args.bytes, args.replace, by_local_user())
    return {"path": path, "version": version}


def _show(args: Namespace) -> dict[str, Any]:
    from datetime import UTC, datetime

    from attest.broker.lifecycle import resource_json
    from attest.broker.opening import open_database
    from attest.cli.common import settings_of
    from policy.vocab import ResourcePath

    path = ResourcePath.parse(args.path)
    return resource_json(open_database(settings_of(args)), path, datetime.now(UTC))


def _conditions(args: Namespace) -> dict[str, Any]:
    from pathlib import Path

    from attest.broker.lifecycle import set_conditions
    from attest.broker.opening import open_database
    from attest.cli.common import by_local_user, read_file, settings_of
    from policy.vocab import ResourcePath

    document, path = read_file(Path(args.file), "conditions"), ResourcePath.parse(args.path)
    version = set_conditions(open_database(settings_of(args)), path, document, by_local_user())
    return {"path": path, "version": version}


def _switch(args: Namespace) -> dict[str, Any]:
    from attest.broker.lifecycle import set_disabled
    from attest.broker.opening import open_database
    from attest.cli.common import by_local_user, settings_of
    from policy.vocab import ResourcePath

    path, disabled = ResourcePath.parse(args.path), args.action == "disable"
    set_disabled(open_database(settings_of(args)), path, disabled, args.reason, by_local_user())
    return {"path": path, "disabled": disabled}


def _break_glass(args: Namespace) -> dict[str, Any]:
    from attest.broker.lifecycle import break_glass
    from attest.broker.opening import open_database
    from attest.cli.common import by_local_user, settings_of
    from policy.vocab import ResourcePath

    path = ResourcePath.parse(args.path)
    record = break_glass(open_database(settings_of(args)), path, args.reason, args.minutes, by_local_user())
    return {"path": path, "record": record}


def _rewrap(args: Namespace) -> dict[str, Any]:
    from attest.broker.opening import open_database
    from attest.broker.rewrapping import rewrap_all
    from attest.cli.common import by_local_user, settings_of
    from attest.keys.master import load_master_keys

    settings = settings_of(args)
    keys = load_master_keys(settings.master_key_file)
    return {"resources": rewrap_all(open_database(settings), keys, by_local_user()), "master_key": keys.newest}


def _token_key(args: Namespace) -> dict[str, Any]:
    from pathlib import Path

    from attest.cli.common import read_file
    from attest.keys.master import token_line

    path = Path(args.file)
    line, key = token_line(read_file(path, "token key"), path)
    key.make()
    return {"key_id": key.key_id, "line": line}


def _transit_key(args: Namespace) -> dict[str, Any]:
    from pathlib import Path

    from attest.cli.common import read_file
    from attest.keys.master import transit_line

    path = Path(args.file)
    line, key = transit_line(read_file(path, "transit key"), path)
    key.inspect()
    return {"key_id": key.key_id, "line": line}


def _approve(args: Namespace) -> dict[str, Any]:
    from attest.cli.operator import ask_json
    from policy.vocab import ResourcePath

    query = {"purpose": args.purpose, "minutes": str(args.minutes)}
    found = ask_json(args, "POST", f"/cvm/v0/approval/{ResourcePath.parse(args.path)}", query)
    return dict(found)


def _export(args: Namespace) -> dict[str, Any]:
    from pathlib import Path

    from attest.cli.operator import ask
    from attest.keys.files import write_private
    from policy.vocab import ResourcePath

    path = ResourcePath.parse(args.path)
    write_private(Path(args.output), ask(args, "POST", f"/cvm/v0/export/{path}", {"reason": args.reason}))
    return {"path": path, "file": args.output}


def _print(args: Namespace, found: dict[str, Any]) -> int:
    from attest.cli.common import print_fields, print_json

    if args.json:
        print_json({"schema": f"attest.key.{args.action}/1", **found})
    else:
        print_fields(found)
    return 0
